"""Which actor gets which block, and what becomes of a block whose actor is lost: Ray is played by a script."""

from types import SimpleNamespace

import pytest

from backend.recipe import cluster
from backend.recipe.cluster import LOSSES, Cluster
from backend.records import InputError


class Lost(Exception):
    """What Ray raises of an actor that is gone."""


class Script:
    """A cluster of some CPUs: `losing` are the calls of `answer`, by number, that an actor does not survive."""

    def __init__(self, cpus=2, losing=(), missing=None):
        self.exceptions = SimpleNamespace(RayActorError=Lost)
        self.cpus, self.losing, self.missing = cpus, set(losing), missing
        self.asked, self.started, self.killed = [], 0, []

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def put(self, value):
        return value

    def remote(self, _):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._actor))

    def _actor(self):
        self.started += 1
        return SimpleNamespace(
            begin=SimpleNamespace(remote=lambda *_: ("begin", object())),
            answer=SimpleNamespace(remote=self._answer),
        )

    def _answer(self, block, batch):
        self.asked.append(block.name)
        return "lost" if len(self.asked) - 1 in self.losing else block.name, object()

    def wait(self, awaited, num_returns):
        return awaited[:num_returns], awaited[num_returns:]

    def get(self, ready):
        if ready[0] == "lost":
            raise Lost("its node is gone")
        return self.missing if ready[0] == "begin" else [ready[0]]

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def answers(monkeypatch):
    monkeypatch.setattr(cluster, "base_of", lambda _: "tiny")

    def run(script, blocks=5, actors=None):
        part = SimpleNamespace(cpus=1.0, gpus=0.0, actors=actors)
        bench = SimpleNamespace(
            read=SimpleNamespace(recipe=SimpleNamespace(cluster=part)), folder=SimpleNamespace(organisms={})
        )
        told = []
        work = Cluster(script, bench)
        given = [SimpleNamespace(name=f"b{i}", size=3) for i in range(blocks)]
        found = {block.name: answer for block, answer in work.blocks(None, given, 8, lambda *at: told.append(at))}
        return work, found, told

    return run


def test_every_block_is_answered_once_by_as_many_actors_as_there_is_room_for(answers):
    script = Script(cpus=2)
    _, found, told = answers(script)
    assert found == {f"b{i}": [f"b{i}"] for i in range(5)}
    assert sorted(script.asked) == [f"b{i}" for i in range(5)]
    assert script.started == 2
    assert told[-1] == (15, 15)
    assert answers(Script(cpus=8), actors=3)[0].lost == 0


@pytest.mark.parametrize("losing", [[0], [2], [4], [0, 1], [1, 3, 5]])
def test_the_block_of_a_lost_actor_is_answered_by_another(answers, losing):
    script = Script(losing=losing)
    work, found, told = answers(script)
    assert found == {f"b{i}": [f"b{i}"] for i in range(5)}
    assert work.lost == len(losing)
    assert len(script.asked) == 5 + len(losing)
    assert told[-1] == (15, 15)


def test_a_cluster_that_loses_actors_again_and_again_is_given_up(answers):
    with pytest.raises(InputError, match=f"{LOSSES + 1} actors of the cluster were lost"):
        answers(Script(losing=range(1000)))


def test_a_node_without_the_model_and_a_cluster_without_room_are_named(answers):
    with pytest.raises(InputError, match=r"node one: no such model\. Put the model there"):
        answers(Script(missing="node one: no such model."))
    with pytest.raises(InputError, match=r"the cluster has 0 CPUs and 0 GPUs, and one actor takes 1"):
        answers(Script(cpus=0))
