"""What rounds a party takes part in: all of an honest plan, and none that a coordinator makes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from harness import Deaf, config
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.plan import coordinator_plan, open_world, party_specs
from parties.local import local_grid
from parties.schedule import Schedule
from vfl.coordinator import EVALUATION_BATCH, Coordinator, Fit, phase_steps
from vfl.errors import PartyError, WireError
from vfl.grid import KEEP
from vfl.methods.vanilla import EVALUATE, TRAIN
from vfl.types import Phase, Pool, Role, Step

ROWS = 100
PHASE = Phase("train", TRAIN, epochs=2, batch_size=40)
FIRST = Step(0, "train", Pool.TRAIN, epoch=0, start=0, size=34, shuffle=True, of=ROWS)


def schedule(*phases: Phase, role: Role = Role.ADVERTISER, rows: int = ROWS, only: int = 0) -> Schedule:
    held = {"train": rows, "valid": 50, "test": EVALUATION_BATCH + 10, "only": only}
    return Schedule("someone", role, (), phases or (PHASE,), EVALUATE, KEEP, held)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 300), st.integers(0, 9), st.booleans()), min_size=1, max_size=3
    ),
    st.integers(1, 400),
)
def test_every_round_of_an_honest_plan_is_in_it(drawn: list[tuple[int, int, int, bool]], rows: int):
    phases = tuple(
        Phase(f"phase_{place}", TRAIN, epochs, batch, min_steps=least, shuffle=shuffle)
        for place, (epochs, batch, least, shuffle) in enumerate(drawn)
    )
    ours, index = schedule(*phases, rows=rows), 0
    for phase in phases:
        for step, _ in phase_steps(phase, rows):
            ours.check(replace(step, index=index), ("forward",))
            ours.check(replace(step, index=index), ("backward",))
            index += 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": 1}, "batches of 33 or 34 rows"),
        ({"start": 5}, "batches of 33 or 34 rows"),
        ({"start": 99, "size": 1}, "batches of 33 or 34 rows"),
        ({"of": 1, "size": 1}, "epochs over 100 rows"),
        ({"of": 0}, "epochs over 100 rows"),
        ({"epoch": 2}, "2 epochs and at least 0 rounds"),
        ({"shuffle": False}, "shuffled True"),
        ({"pool": Pool.VALID}, "pool train"),
        ({"phase": "other"}, "allowed train"),
    ],
)
def test_another_header_is_refused_and_says_what_is_allowed(changed: dict[str, object], told: str):
    ours = schedule()
    ours.check(FIRST, ("forward",))
    with pytest.raises(WireError, match=told):
        schedule().check(replace(FIRST, **changed), ("forward",))


def test_a_round_is_played_once_and_none_comes_back():
    ours = schedule()
    second = replace(FIRST, index=1, start=34, size=33)
    ours.check(FIRST, ("forward",))
    with pytest.raises(WireError, match="each round once"):
        ours.check(replace(FIRST, index=1), ("forward",))
    ours.check(second, ("forward",))
    with pytest.raises(WireError, match="each round once"):
        ours.check(replace(FIRST, index=2), ("forward",))
    ours.reset()
    ours.check(replace(FIRST, index=2), ("forward",))


def test_the_header_of_a_round_at_hand_is_taken_for_hops_of_its_phase_alone_and_no_longer_than_the_round():
    ours = schedule()
    ours.check(FIRST, ("forward",))
    ours.check(FIRST, ("backward",))
    for names in (("embed",), ("forward", "other"), ()):
        with pytest.raises(WireError, match="the hops"):
            ours.check(FIRST, names)
    ours.check(replace(FIRST, index=1, start=34, size=33), ("forward",))
    with pytest.raises(WireError, match="each round once"):
        ours.check(FIRST, ("backward",))


def test_evaluation_takes_whole_batches_of_its_own_pool_and_no_training_hop():
    ours = schedule()
    test = Step(0, "test", Pool.TEST, start=0, size=EVALUATION_BATCH)
    ours.check(test, ("embed",))
    ours.check(replace(test, start=EVALUATION_BATCH, size=10), ("embed",))
    ours.check(Step(0, "valid", Pool.VALID), ("keep_epoch",))
    for wrong in (
        replace(test, size=1),
        replace(test, start=7),
        replace(test, pool=Pool.TRAIN),
        replace(test, start=EVALUATION_BATCH, size=11),
    ):
        with pytest.raises(WireError):
            ours.check(wrong, ("embed",))
    with pytest.raises(WireError, match="the hops"):
        ours.check(test, ("forward",))


@pytest.mark.parametrize(
    ("role", "pool", "of", "fine"),
    [
        (Role.ADVERTISER, Pool.LABELLED, ROWS + 30, True),
        (Role.ADVERTISER, Pool.LABELLED, ROWS, False),
        (Role.ADVERTISER, Pool.LABELLED, ROWS + 31, False),
        (Role.PUBLISHER, Pool.LABELLED, ROWS + 500, True),
        (Role.PUBLISHER, Pool.LEFTOVER, 30, True),
        (Role.PUBLISHER, Pool.LEFTOVER, 29, False),
        (Role.ADVERTISER, Pool.LEFTOVER, 29, True),
        (Role.PUBLISHER, Pool.UNION, ROWS + 29, False),
        (Role.PUBLISHER, Pool.UNION, ROWS + 900, True),
    ],
)
def test_an_epoch_passes_over_no_fewer_rows_than_the_party_itself_holds(role: Role, pool: Pool, of: int, fine: bool):
    phase = Phase("all", TRAIN, epochs=1, batch_size=10_000, pool=pool)
    step = Step(0, "all", pool, size=of, shuffle=True, of=of)
    if fine:
        return schedule(phase, role=role, only=30).check(step, ("forward",))
    with pytest.raises(WireError, match="epochs over"):
        schedule(phase, role=role, only=30).check(step, ("forward",))


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    asked = config()
    grid = local_grid(party_specs(asked, open_world(asked), None), "relay")
    ours = Coordinator(grid, coordinator_plan(asked), Fit(), Deaf())
    ours.begin()
    yield ours
    grid.close()


def test_a_coordinator_that_asks_for_rounds_of_one_row_gets_no_loss(coordinator: Coordinator):
    """The loss of a single row is its label; an honest round is answered."""
    phase, rows = coordinator.plan.phases[0], coordinator.fit.rows(Pool.TRAIN)
    honest = next(phase_steps(phase, rows))[0]
    assert coordinator.play(phase.hops, honest)["advertiser"]["loss"] > 0
    for start in range(3):
        with pytest.raises((WireError, PartyError), match="own plan allows"):
            coordinator.play(phase.hops, replace(honest, start=start, size=1, of=rows))
    with pytest.raises((WireError, PartyError), match="own plan allows"):
        coordinator.play(coordinator.plan.evaluate, Step(0, "valid", Pool.VALID, start=0, size=1))
