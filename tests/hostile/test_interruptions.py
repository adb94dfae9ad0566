"""A few of the moments of ``python -m tests.reliability.kills``, with small wheels and a base of a few files."""

from __future__ import annotations

import random

from tests.reliability.kills import SIGNALS, Moment, small_trial
from tests.unit.index.plugin import machine, server
from tests.unit.world import World, world

__all__ = ["machine", "server", "world"]


def test_an_interrupted_build_leaves_nothing_that_the_next_one_minds(world: World) -> None:
    trial = small_trial(world)
    trial.prepare(("cold", "layers"))
    chosen = random.Random(5)
    wrong = []
    for stage, whole in trial.seconds.items():
        trial.begin(stage)
        killed = False
        for number in SIGNALS:
            moment = Moment(stage, number, chosen.uniform(0.3, 0.9) * whole)
            # An interrupted build leaves less to do, so that the next may be over before its moment.
            while (ended := trial.interrupted(moment)).late is None:
                wrong += [f"{moment}: {line}" for line in trial.wrong(moment, ended, killed=killed)]
                trial.begin(stage)
                killed = False
                moment = moment._replace(after=moment.after / 2)
            killed |= ended.code < 0
            wrong += [f"{moment}: {line}" for line in trial.wrong(moment, ended, killed=killed)]
        wrong += [f"{stage}: {line}" for line in trial.wrong_in_the_end(stage)]
    assert wrong == []
