import numpy as np
import pytest
import streamlit as st

from backend.records import Direction
from backend.worker.client import WorkerError
from panels.promoted import asked_lens
from tests.studies.fake_worker import fake_worker


@pytest.fixture(autouse=True)
def forgotten():
    st.cache_resource.clear()


def test_a_lens_is_asked_for_once_whatever_the_direction_is_called(monkeypatch):
    with fake_worker() as worker:
        monkeypatch.setenv("EM_WORKER_URL", worker.url)
        vector = np.arange(4, dtype=np.float32)
        found = asked_lens(Direction("v", 2, vector))
    assert found.columns == ["side", "rank", "token", "value"]
    assert set(found["side"]) == {"top", "bottom"}
    assert found.filter(found["side"] == "top")["rank"].to_list() == list(range(1, found.height // 2 + 1))
    assert asked_lens(Direction("w", 2, vector)) is found  # nobody listens any more
    with pytest.raises(WorkerError):
        asked_lens(Direction("v", 3, vector))
