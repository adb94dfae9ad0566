"""A few of the moments of ``python -m tests.reliability.kills``, with small wheels and a base of a few files."""

from __future__ import annotations

import random

import pytest

from tests.reliability.kills import SIGNALS, Moment, Trial
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, notebook, pylock, wheel, world

__all__ = ["machine", "server", "world"]


@pytest.fixture
def trial(world: World) -> Trial:
    made = [wheel(f"part-{n}", files={f"part{n}.bin": random.Random(n).randbytes(2_000_000)}) for n in range(12)]
    world.offer(*made)
    lock = pylock(*made, url=f"{world.server.url}/files")
    old, new = (notebook(world.folder / name, lock, title=name).parent for name in ("old", "new"))
    command = world.command("build", "--base", world.base)
    trial = Trial(world.folder, command, world.environ, old, new)
    trial.prepare(("cold", "layers"))
    return trial


def test_an_interrupted_build_leaves_nothing_that_the_next_one_minds(trial: Trial) -> None:
    chosen = random.Random(5)
    wrong, interrupted = [], 0
    for stage, whole in trial.seconds.items():
        trial.begin(stage)
        killed = False
        for number in SIGNALS:
            moment = Moment(stage, number, chosen.uniform(0.3, 0.9) * whole)
            ended = trial.interrupted(moment)
            interrupted += ended.late is not None
            killed |= ended.code < 0
            wrong += [f"{moment}: {line}" for line in trial.wrong(moment, ended, killed=killed)]
        wrong += [f"{stage}: {line}" for line in trial.wrong_in_the_end(stage)]
    assert wrong == []
    assert interrupted >= len(SIGNALS)
