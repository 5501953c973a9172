"""Build every member that a configuration names, so that a run is refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from experiments.explain import Origin, dotted
from experiments.problems import raise_all, refusal
from experiments.rules import ADVERTISER, PUBLISHER
from experiments.schema import Config, DefenseSpec, HintsSection
from vfl.errors import ConfigError, RegistryError, ThreatError, UserError
from vfl.registry import build

if TYPE_CHECKING:
    from vfl.attacks import Needs

_COUNTS = {"labelled_rows": "labelled rows", "known_rows": "rows of known features"}
_SWITCHES = {
    "prior": "the share of each class",
    "scores": "the returned scores",
    "victim_models": "the other parties' networks",
}


def check_members(config: Config, origin: Origin | None = None) -> None:
    """Build each data set, aligner, method, imputer, model, defense and attack, and raise all that they refuse.

    `origin` says where the configuration came from, for the front of each line. Importing members imports torch.

    Raises `RegistryError` for an unknown name, `ConfigError` for an unknown or refused option, a defense at the wrong
    side or one whose epsilon the rest of its stack voids, `ThreatError` for an attack that needs more than is granted;
    several as one `ConfigErrors`.
    """
    from experiments.adaptive import adapted

    found: list[UserError] = []
    try:
        config = adapted(config)
    except UserError as error:
        found.append(error)
        config = config.model_copy(update={"attack": ()})
    for family, key, spec in _specs(config):
        try:
            member = _made(config, family, key, spec)
        except UserError as error:
            found.append(type(error)(error.message, key=dotted(key, error.key) if error.key else _whole(key, error)))
        else:
            found += _misplaced(config, family, key, member)
    found = found or _void(config)
    origin = origin or Origin()
    raise_all([error.at(where=origin.where(error.key)) for error in found])


def _made(config: Config, family: str, key: str, spec: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any family's
    """Return a member; of an attack what it needs, since its code may be somebody else's."""
    from experiments.asked_needs import needs_of

    return needs_of(config.attack[_place(key)]) if family == "attack" else build(family, spec)


def _place(key: str) -> int:
    return int(key.rpartition(".")[2])


def _whole(key: str, error: UserError) -> str:
    """Return the key of a mistake that is of no option: the name where nothing is known by it, else all of the spec."""
    return dotted(key, "name") if isinstance(error, RegistryError) else key


def _specs(config: Config) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return the family, the key and the spec of every member named; a method may name an imputer for its own use."""
    imputer = config.method.options.get("impute")
    parties = [(f"model.parties.{party}.bottom", own.bottom) for party, own in config.model.parties.items()]
    return [
        ("data", "data", config.data.member),
        ("align", "align", config.aligner),
        ("method", "method", config.method.member),
        *([("impute", "method.impute", {"name": imputer})] if isinstance(imputer, str) else []),
        *([("impute", "method.impute", cast(Mapping[str, Any], imputer))] if isinstance(imputer, Mapping) else []),
        ("model", "model.bottom", config.model.bottom.member),
        ("model", "model.top", config.model.top.member),
        *(("model", key, spec.member) for key, spec in parties if spec),
        *(("defense", f"defense.{index}", spec.member) for index, spec in enumerate(config.defense)),
        *(("attack", f"attack.{index}", spec.member) for index, spec in enumerate(config.attack)),
    ]


def _misplaced(config: Config, family: str, key: str, member: Any) -> list[UserError]:  # noqa: ANN401 - any family's
    if family == "defense":
        index = _place(key)
        return [*_wrong_side(config.defense[index], key, str(member.side)), *_unheeded(config, key, index, member)]
    if family == "attack":
        return _beyond_the_grant(config, key, config.attack[_place(key)].key, member)
    return []


def _wrong_side(spec: DefenseSpec, key: str, side: str) -> list[UserError]:
    role = ADVERTISER if spec.party == ADVERTISER else PUBLISHER
    if spec.party is None or role == side:
        return []
    allowed = ADVERTISER if side == ADVERTISER else "a publisher"
    message = refusal(spec.party, f"{allowed}, where {spec.name!r} acts", "remove `party`")
    return [ConfigError(message, key=f"{key}.party")]


def _unheeded(config: Config, key: str, index: int, member: object) -> list[UserError]:
    """Refuse a defense that acts on labels, on the loss or on embeddings beside a method that would not heed it."""
    from vfl.defenses import LabelTransform, Penalty
    from vfl.registry import find

    try:
        method = find("method", config.method.name)
    except RegistryError:
        return []  # the method is refused by its own name
    heeded: frozenset[str] = getattr(method, "heeds", frozenset())
    asked = {"labels": LabelTransform, "penalty": Penalty}
    masked = getattr(method, "masked", False) and "embedding" in getattr(member, "kinds", ())
    if not masked and all(hook in heeded for hook, protocol in asked.items() if isinstance(member, protocol)):
        return _uncounted(config, key, index, member, heeded)
    advice = "set method=vanilla or choose a defense that acts on what is sent"
    message = refusal(config.defense[index].name, f"a method that heeds it, not {config.method.name!r}", advice)
    return [ConfigError(message, key=f"{key}.name")]


def _uncounted(config: Config, key: str, index: int, member: object, heeded: frozenset[str]) -> list[UserError]:
    """Refuse a guarantee for each release of a row where a run releases oftener, or otherwise, than is accounted.

    Labels made private once, at their source, are exempt: whatever is released of those is covered.
    """
    from vfl.defenses import LabelTransform, Wrap
    from vfl.privacy.ledger import Accounted

    if not isinstance(member, Accounted) or (isinstance(member, LabelTransform) and not member.each_epoch):
        return []
    train, name = config.train, config.method.name
    by_class, plainly = bool(getattr(member, "by_class", False)), train.stale == 0 and train.batches_per_message == 1
    needs = (
        ("weights" if isinstance(member, Wrap) else "releases", True, "sends or trains on rows oftener, or together"),
        ("classes", by_class, "has no gradients by class"),
    )
    wrong = [f"not {name!r}, which {why}" for need, asked, why in needs if asked and need not in heeded]
    if by_class and not plainly:
        wrong.append("train.stale 0 and train.batches_per_message 1, without which there are no gradients by class")
    if config.faults.without == "impute":
        wrong.append("faults.without: stop, since steps played again release rows again")
    if not wrong:
        return []
    message = refusal(config.defense[index].name, f"a run that its epsilon counts: {wrong[0]}", "change one of the two")
    return [ConfigError(message, key=f"{key}.name")]


def _void(config: Config) -> list[UserError]:
    """Return a refusal of each defense whose guarantee would not hold beside the others at its party."""
    from vfl.privacy.ledger import void

    members = [build("defense", spec.member) for spec in config.defense]
    found: dict[str, UserError] = {}
    for party in dict.fromkeys([ADVERTISER, PUBLISHER, *(spec.party for spec in config.defense if spec.party)]):
        role = ADVERTISER if party == ADVERTISER else PUBLISHER
        stack = [
            index
            for index, (spec, member) in enumerate(zip(config.defense, members, strict=True))
            if (spec.party in (party, role) if spec.party else member.side == role)
        ]
        for place, reason in void([members[index] for index in stack]):
            key = f"defense.{stack[place]}"
            message = refusal(config.defense[stack[place]].name, "it without what voids it", "remove one or reorder")
            found[key] = ConfigError(f"{message}: {reason}", key=key)
    return list(found.values())


def _beyond_the_grant(config: Config, key: str, name: str, needs: Needs) -> list[UserError]:
    return [ThreatError(message, key=key) for message in beyond(needs, config.threat.hints, name)]


def beyond(needs: Needs, hints: HintsSection, name: str) -> list[str]:
    """Return a message for each thing that the attack called `name` needs and `hints` does not grant."""
    found: list[str] = []
    for key, what in _COUNTS.items():
        needed, granted = getattr(needs, key), getattr(hints, key)
        if needed > granted:
            advice = f"set threat.hints.{key}={needed} or have {name!r} use fewer"
            found.append(f"got an attack that needs {needed} {what}, allowed {granted}; {advice}")
    for key, what in _SWITCHES.items():
        if getattr(needs, key) and not getattr(hints, key):
            found.append(f"got an attack that needs {what}, allowed none; set threat.hints.{key}=true or drop {name!r}")
    return found
