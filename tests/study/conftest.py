"""A study with planted truths, built once for all tests of reading."""

import pytest

from backend.study import open_study
from tests.studies import synthetic


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    synthetic.synthetic_study(folder)
    return folder


@pytest.fixture(scope="session")
def study(root):
    return open_study("synthetic", root)
