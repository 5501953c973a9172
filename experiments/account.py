"""What a configuration guarantees before it is run, and what one Gaussian mechanism is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.plan import World, coordinator_plan, open_world, party_specs
from experiments.schema import Config
from experiments.uncovered import uncovered
from parties.spec import PartySpec
from vfl.errors import ConfigError
from vfl.privacy.ledger import DELTA, Plan, compose, spends
from vfl.registry import build
from vfl.types import Kind, Role

ACCOUNT_SCHEMA = 1
SENT = {Role.PUBLISHER: Kind.EMBEDDING, Role.ADVERTISER: Kind.GRADIENT}


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A Gaussian mechanism whose noise is in question: how often it is used on one row, and what others know.

    `sample_rate` is the chance of a row to be in a step's batch; below 1 it only counts where `batches_hidden`.
    """

    steps: int
    sample_rate: float
    delta: float
    batches_hidden: bool

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a figure out of range."""
        checks = (
            ("--steps", self.steps, self.steps >= 1, "1 or more"),
            ("--sample-rate", self.sample_rate, 0 < self.sample_rate <= 1, "above 0, up to 1"),
            ("--delta", self.delta, 0 < self.delta < 1, "above 0 and below 1"),
        )
        for key, got, allowed, said in checks:
            if not allowed:
                raise ConfigError(f"got {got}, allowed {said}; change it", key=key)


def ledger(config: Config, world: World, delta: float = DELTA) -> list[dict[str, Any]]:
    """Return the ledger of a run: one line for each party and unit that its defenses guarantee something for."""
    lines: list[dict[str, Any]] = []
    for spec in party_specs(config, world, None):
        if spec.role not in SENT:
            continue
        receivers = len(world.publishers) if spec.role == Role.ADVERTISER else 1
        spent = spends(_stack(spec), Plan(releases(config, spec.role), receivers))
        lines += [asdict(entry) for entry in compose(spec.party, spent, delta)]
    return lines


def releases(config: Config, role: Role) -> int:
    """Return how often a run is counted to send one receiver something about a training row, for its ledger."""
    phases = coordinator_plan(config).phases
    return sum(phase.epochs * max(1, sum(hop.gives == SENT[role] for hop in phase.hops)) for phase in phases)


def _stack(spec: PartySpec) -> list[object]:
    return [build("defense", defense) for defense in spec.defenses]


def of_config(config: Config, delta: float) -> dict[str, Any]:
    """Return the ledger that a run of this configuration would leave. Raises as a run would before it starts."""
    if not 0 < delta < 1:
        raise ConfigError(f"got {delta}, allowed above 0 and below 1; change it", key="--delta")
    world = open_world(config)
    return {"schema": ACCOUNT_SCHEMA, "ledger": ledger(config, world, delta), "uncovered": uncovered(config, world)}


def of_mechanism(
    mechanism: Mechanism, noise_multiplier: float | None, target_epsilon: float | None, beside: Sequence[str]
) -> dict[str, Any]:
    """Return epsilon by accountant, of a given noise multiplier or of the least one that stays below the target.

    `rdp` and `prv` are given where rows are sampled, `exact` where every row is in every step. Neighbours differ in
    what the sensitivity says they differ in. Raises `ConfigError` for amplification by batches that others see.
    """
    from vfl.privacy import subsampled

    _check_asked(noise_multiplier, target_epsilon, beside)
    names = ("exact",) if mechanism.sample_rate == 1 else ("rdp", "prv")
    rate, steps, delta, hidden = (
        mechanism.sample_rate,
        mechanism.steps,
        mechanism.delta,
        mechanism.batches_hidden,
    )
    noise = noise_multiplier or subsampled.noise_for(target_epsilon or 0.0, rate, steps, delta, batches_hidden=hidden)
    found = {
        name: subsampled.epsilon(
            noise, rate, steps, delta, accountant="prv" if name == "prv" else "rdp", batches_hidden=hidden
        )
        for name in names
    }
    facts = {"noise_multiplier": noise, "sample_rate": rate, "steps": steps, "delta": delta}
    return {"schema": ACCOUNT_SCHEMA, **facts, "epsilon": found}


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return what `of_config` or `of_mechanism` found, as lines to read."""
    if "ledger" in found:
        bare = found["uncovered"]
        told = [
            f"{each['party']}: epsilon {each['epsilon']:.4g} at delta {each['delta']:g} for the {each['unit']}"
            f" ({each['purpose']}; {each['accountant']})"
            for each in found["ledger"]
        ]
        told = told or ["no defense of this configuration guarantees anything: there is no epsilon"]
        return told + [f"{each['party']}: no epsilon for the {each['unit']} ({each['purpose']})" for each in bare]
    plan = f"{found['steps']} steps, sample rate {found['sample_rate']:g}, delta {found['delta']:g}"
    figures = [f"epsilon {value:.4g} by {name}" for name, value in found["epsilon"].items()]
    return [f"noise multiplier {found['noise_multiplier']:.5g}: {plan}", *figures]


def _check_asked(noise_multiplier: float | None, target_epsilon: float | None, beside: Sequence[str]) -> None:
    if beside:
        advice = "the mechanism needs no configuration; leave it out"
        raise ConfigError(
            f"got {' and '.join(beside)} beside a mechanism, allowed one of them; {advice}", key="account"
        )
    if noise_multiplier is not None and target_epsilon is not None:
        raise ConfigError("got both, allowed one; leave out what you want computed", key="--target-epsilon")
    for key, value in (("--noise-multiplier", noise_multiplier), ("--target-epsilon", target_epsilon)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"got {value}, allowed any finite number above 0; change it", key=key)
