"""The simulation of growth: small plans, whose outcomes are known."""

from __future__ import annotations

from dataclasses import replace

from bench.scale.outcome import Outcome
from bench.scale.parts import Plan
from bench.scale.simulation import Simulation

#: Twice the capacity, 4 replies a second.
SMALL = Plan("small", rate=8, workers=2, slots=4, sessions=80, seconds=60, seed=3)


def simulate(plan: Plan) -> Outcome:
    return Simulation(plan).run()


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, second = simulate(SMALL), simulate(SMALL)
    assert first.waits == second.waits
    assert first.waits != simulate(replace(SMALL, seed=4)).waits


def test_at_twice_the_capacity_half_is_admitted_and_none_waits_much_longer_than_the_bound() -> None:
    outcome = simulate(replace(SMALL, rate=80, workers=4, slots=20, sessions=800))
    assert 0.35 < min(outcome.shares) <= max(outcome.shares) < 0.65
    assert 0.8 * SMALL.bound < max(outcome.waits) <= 1.3 * SMALL.bound
    assert 39 < outcome.rate < 41
    assert not outcome.forgotten


def test_below_the_capacity_all_are_admitted_at_once() -> None:
    outcome = simulate(replace(SMALL, rate=2, seconds=40, partitions=16, nodes=2))
    assert outcome.shares == [1.0, 1.0]
    assert max(outcome.waits) < 2.5


def test_replies_of_a_killed_worker_begin_again_before_those_that_wait() -> None:
    outcome = simulate(replace(SMALL, kills=((30, 1),), failing=0.05))
    assert len(outcome.begun_again) == SMALL.slots
    # One is recovered in a slot of its own, the others when a reply ends.
    assert max(outcome.begun_again) < 1 + SMALL.reply + 1
    assert outcome.late_retries
    assert max(outcome.late_retries) < 4


def test_sessions_of_a_lost_node_are_answered_when_it_is_back() -> None:
    plan = replace(SMALL, rate=3, partitions=16, nodes=2, lost=(25.0, 30.0), seconds=70)
    outcome = simulate(plan)
    assert outcome.unavailable
    assert not outcome.forgotten
    # Without the node's return its sessions stay behind.
    assert simulate(replace(plan, lost=(25.0, 100.0))).forgotten
