"""The job that an attack runs in: confined to its view, it can reach nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vfl import checkpoint
from vfl.access import undeclared, watched
from vfl.attacks import Attack, Guess, Needs
from vfl.defenses import Wrap
from vfl.errors import PeekError, ThreatError
from vfl.holding import TABLE_FILE, load_table
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.store import load_view
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import PartyId, Role, TableSchema

GRANT_FILE = "grant.safetensors"
CONTROL = "control."


def needs(attack: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an attack needs, its kinds by name: asked here so that no other process imports its code."""
    member: Attack = build("attack", attack)
    told = {each.name: getattr(member.needs, each.name) for each in fields(member.needs)}
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in told.items()}


def infer(attack: Mapping[str, Any], view: Mapping[str, Any], grant: str, seed: int, out: str) -> None:
    """Run one attack on its view and write its guess to `out`, with what it read to make it.

    Raises `PeekError` where it read anything that it had not declared, whether it was there or not.

    `view` names the folders of the parties that look, the number of classes, and how each party's networks are built.
    `grant` is the folder of what the threat model grants. The attack's random stream starts from `seed`, a hash of the
    run's own seed: whoever guesses that seed can compute every stream of the run (see docs/threat-model.md).
    """
    member: Attack = build("attack", attack)
    log, asked = set[str](), member.needs
    seen = watched(open_view(asked, view, Path(grant), Seeds(seed)), log)
    guess = member.infer(seen, Seeds(seed).torch("infer"))
    if beyond := undeclared(log, asked):
        raise PeekError(f"read {', '.join(beyond)}, which it did not declare; name it in its `needs` or leave it alone")
    controls = {f"{CONTROL}{name}": scores for name, scores in guess.controls.items()}
    tensors = {"steps": guess.steps, "rows": guess.rows, "scores": guess.scores, **controls}
    facts = {name: getattr(guess, name) for name in ("target", "party", "columns", "reference")}
    facts["reads"] = sorted(log)
    checkpoint.save(Path(out), {name: value.detach().contiguous() for name, value in tensors.items()}, facts)


def open_view(needs: Needs, view: Mapping[str, Any], grant: Path, seeds: Seeds) -> AdversaryView:
    """Return what an attack with such needs is handed: the adversary's folders, as far as it asked, and the grant."""
    parties, folders = tuple(view["parties"]), [Path(folder) for folder in view["folders"]]
    own: dict[PartyId, Holding] = {}
    if needs.own_features or needs.own_models:
        for party, folder in zip(parties, folders, strict=True):
            networks = checkpoint.load(folder / "checkpoints" / "final.safetensors")[0] if needs.own_models else {}
            own[party] = read_holding(folder / TABLE_FILE, networks, view["networks"][party], seeds)
    transcripts = [folder / "transcript" for folder in folders]
    seen = load_view(transcripts, parties, view["classes"], read_hints(grant, view["networks"], seeds), own)
    sent = tuple(each for each in seen.sent if each.kind in needs.sent)
    return replace(seen, sent=sent, received=tuple(each for each in seen.received if each.kind in needs.received))


def read_holding(path: Path, networks: Mapping[str, Tensor], plan: Mapping[str, Any], seeds: Seeds) -> Holding:
    """Return a party's rows with its networks rebuilt from `plan` and the tensors `networks`, where they are there.

    Raises `ThreatError` where the run's method has changed a network into one that `plan` does not describe.
    """
    batch, schema, stored = load_table(path)
    tensors = {**stored, **networks}
    return Holding(
        batch,
        schema,
        bottom=_restored(_bottom(plan, schema, seeds), tensors, "bottom."),
        fresh=_bottom(plan, schema, seeds) if schema.columns else None,
        top=_restored(_top(plan, seeds), tensors, "top."),
    )


def read_hints(grant: Path, networks: Mapping[str, Any], seeds: Seeds) -> Hints:
    """Return what the threat model grants, from its folder."""
    tensors, _ = checkpoint.load(grant / GRANT_FILE)
    victims = {
        path.stem.removeprefix("victim-"): read_holding(path, {}, networks[path.stem.removeprefix("victim-")], seeds)
        for path in sorted(grant.glob("victim-*.safetensors"))
    }
    prior = tensors.pop("prior", None)
    return Hints(**tensors, prior=prior, victims=victims)


def read_guess(path: str) -> Guess:
    """Return the guess in a file that `infer` wrote."""
    tensors, facts = checkpoint.load(Path(path))
    controls = {key.removeprefix(CONTROL): value for key, value in tensors.items() if key.startswith(CONTROL)}
    steps, rows, scores = (tensors[name] for name in ("steps", "rows", "scores"))
    about = (facts["party"], tuple(facts["columns"]), controls, facts["reference"])
    return Guess(facts["target"], steps, rows, scores, *about)


def read_log(path: str) -> list[str]:
    """Return what the attack that wrote a guess had read of its view, as `vfl.access` names it."""
    return checkpoint.load(Path(path))[1]["reads"]


def _bottom(plan: Mapping[str, Any], schema: TableSchema, seeds: Seeds) -> nn.Module | None:
    if not schema.columns:
        return None
    with seeds.initialising("fresh"):
        bottom = build("model", plan["bottom"]).bottom(schema, Role(plan["role"]), plan["width"])
    return _wrapped("bottom", bottom, plan, seeds)


def _top(plan: Mapping[str, Any], seeds: Seeds) -> nn.Module | None:
    return _wrapped("top", build("model", plan["top"]).top(plan["top_width"], plan["classes"]), plan, seeds)


def _wrapped(name: str, module: nn.Module | None, plan: Mapping[str, Any], seeds: Seeds) -> nn.Module | None:
    """Return a network inside the defenses that its party mounted around it, at random weights."""
    for place, spec in enumerate(plan["defenses"]):
        member = build("defense", spec)
        if module is not None and isinstance(member, Wrap) and member.place == name:
            scope = seeds.scope("defense", place)
            with scope.initialising(name):
                module = member.wrap(module, scope)
    return module


def _restored(module: nn.Module | None, tensors: Mapping[str, Tensor], prefix: str) -> nn.Module | None:
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if module is None or not own:
        return None
    try:
        module.load_state_dict(own)
    except RuntimeError:
        message = f"the method or a defense changed the {prefix[:-1]} network, so this attack cannot rebuild it"
        raise ThreatError(f"{message}; choose an attack that reads the wire alone", key="attack") from None
    return module.eval().requires_grad_(False)
