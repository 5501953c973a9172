"""What leaves a party in a run under no guarantee: the other half of its ledger."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan import World, coordinator_plan, party_specs
from experiments.schema import Config
from parties.spec import PartySpec
from vfl.coordinator import Plan
from vfl.defenses import LabelTransform
from vfl.privacy.ledger import Accounted
from vfl.registry import build
from vfl.types import Kind, Role

Line = dict[str, str]


def uncovered(config: Config, world: World) -> list[Line]:
    """Return what no epsilon covers, one line for each party, unit and purpose: training, evaluation, metrics.

    An epsilon counts what a run's training releases of its training rows. Rows that are only validated or tested are
    sent through the same defenses and are not counted, however much noise they carry. Labels made private at their
    source cover all that is made of them: gradients, and the loss of each step.
    """
    plan = coordinator_plan(config)
    lines: list[Line] = []
    for spec in party_specs(config, world, None):
        stack = [build("defense", defense) for defense in spec.defenses]
        found = _of_publisher(config, plan, stack) if spec.role == Role.PUBLISHER else ()
        found = _of_advertiser(config, plan, spec, stack) if spec.role == Role.ADVERTISER else found
        lines += [{"party": spec.party, "unit": unit, "purpose": purpose} for unit, purpose in found]
    return lines


def _of_publisher(config: Config, plan: Plan, stack: list[object]) -> Iterator[tuple[str, str]]:
    trained = any(hop.gives == Kind.EMBEDDING for phase in plan.phases for hop in phase.hops)
    if trained and not _noised(stack, Kind.EMBEDDING):
        yield "own columns of a training row", "training: its embedding at each pass, to the advertiser"
    if any(hop.gives == Kind.EMBEDDING for hop in plan.evaluate):
        if config.holdout.valid:
            yield "own columns of a validation row", "evaluation: its embedding at each validation, to the advertiser"
        yield "own columns of a test row", "evaluation: its embedding at the test, to the advertiser"


def _of_advertiser(config: Config, plan: Plan, spec: PartySpec, stack: list[object]) -> Iterator[tuple[str, str]]:
    private = any(isinstance(each, LabelTransform) and isinstance(each, Accounted) for each in stack)
    answered = any(hop.gives == Kind.GRADIENT for phase in plan.phases for hop in phase.hops)
    if answered and spec.roster.of(Role.PUBLISHER) and not private and not _noised(stack, Kind.GRADIENT):
        yield "label of a training row", "training: its gradient at each pass, to publishers"
    if not private:
        yield "label of a training row", "broadcast metrics: the mean loss of each step, to the coordinator"
    if config.holdout.valid:
        purpose = "evaluation: the loss of each validation, to the coordinator, and where it fell, to publishers"
        yield "label of a validation row", purpose
    yield "label of a test row", "broadcast metrics: the figures of the test, to whoever reads the run's row"


def _noised(stack: list[object], kind: Kind) -> bool:
    """Return whether a defense with a guarantee acts on what is sent of this kind."""
    return any(isinstance(each, Accounted) and kind in getattr(each, "kinds", ()) for each in stack)
