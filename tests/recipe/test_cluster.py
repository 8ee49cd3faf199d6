"""Answers on a Ray cluster of two nodes of one CPU: as on one machine, with a node removed on the way."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from ray.cluster_utils import Cluster as Nodes

from backend.__main__ import main
from backend.pipeline.folder import StudyFolder
from backend.recipe.bench import Bench
from backend.recipe.cluster import Cluster
from backend.recipe.reading import read_recipe
from backend.recipe.running import held, run
from backend.records import InputError
from tests.recipe.small import write_small

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
TABLES = ("responses/base.baseline.parquet", "sweeps/steer.parquet", "sweeps/gain.parquet")


@pytest.fixture(scope="module", autouse=True)
def apart(tmp_path_factory):
    """Small blocks, so that there are many; traces and replies in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.recipe.cells.BLOCK", 12)
        patch.setattr("backend.pipeline.work.WORK", tmp_path_factory.mktemp("work"))
        patch.setenv("EM_CACHE", str(tmp_path_factory.mktemp("replies")))
        yield


@pytest.fixture
def nodes() -> Iterator[Any]:
    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Path, Path]:
    """The recipe, and the folder of an ordinary run of it up to the sweeps."""
    base = tmp_path_factory.mktemp("cluster")
    recipe = write_small(base / "recipe")
    with held(base / "plain") as ledger:
        run(Bench(read_recipe(recipe), StudyFolder(base / "plain"), root=base / "root"), ledger, until="sweep")
    return recipe, base / "plain"


def test_answers_are_those_of_one_machine_with_a_node_removed_on_the_way(nodes, plain, tmp_path):
    recipe, alone = plain
    second = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    lost: list[str] = []
    with held(tmp_path) as ledger:
        bench = Bench(read_recipe(recipe), StudyFolder(tmp_path), root=tmp_path / "root")
        with Cluster.at(nodes.address, bench) as cluster:
            bench.answer_with(cluster.blocks)
            run(bench, ledger, until="extract")
            assert len(cluster.ray.nodes()) == 2

            def lose() -> None:
                if not lost:
                    lost.append("second")
                    nodes.remove_node(second, allow_graceful=False)

            bench.cells.before = lose  # after the first block of the first sweep
            run(bench, ledger, until="sweep")
    assert lost
    for table in TABLES:
        one, many = (pl.read_parquet(folder / table) for folder in (alone, tmp_path))
        assert one.equals(many), table


def test_a_node_without_the_model_is_said(nodes, plain, tmp_path, monkeypatch):
    recipe, _ = plain
    monkeypatch.setattr("backend.recipe.cluster.base_of", lambda _: "/nowhere/model")
    with held(tmp_path) as ledger:
        bench = Bench(read_recipe(recipe), StudyFolder(tmp_path), root=tmp_path / "root")
        with Cluster.at(nodes.address, bench) as cluster:
            bench.answer_with(cluster.blocks)
            with pytest.raises(
                InputError, match=r"node .*: the model '/nowhere/model' could not be loaded.*every node"
            ):
                run(bench, ledger, until="sample base")


def test_a_cluster_without_room_is_said(nodes, plain, tmp_path):
    recipe, _ = plain
    greedy = recipe.with_name("greedy.yaml")
    greedy.write_text(recipe.read_text() + "cluster: {gpus: 1}\n")
    with held(tmp_path) as ledger:
        bench = Bench(read_recipe(greedy), StudyFolder(tmp_path), root=tmp_path / "root")
        with Cluster.at(nodes.address, bench) as cluster:
            bench.answer_with(cluster.blocks)
            with pytest.raises(InputError, match="has 1 CPUs and 0 GPUs, and one actor takes 1 and 1"):
                run(bench, ledger, until="sample base")


def test_an_address_that_nobody_answers_at_is_said(plain, tmp_path, capsys):
    recipe, _ = plain
    assert main(["run", str(recipe), "--folder", str(tmp_path), "--ray", "127.0.0.1:9"]) == 2
    assert "no Ray cluster answers at '127.0.0.1:9'" in capsys.readouterr().err
