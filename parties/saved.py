"""What a party must have to go on between two rounds, and the checkpoints it writes of it into its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parties.party import Party
from vfl import checkpoint
from vfl.errors import DataError
from vfl.types import Kind

KEPT = 3
"""Checkpoints that a party keeps: the coordinator's last two, and one more, of which it may never hear."""


def state(party: Party) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all that this party must have to go on between two rounds: tensors, and facts that JSON can hold."""
    outbox = party.outbox
    tensors = checkpoint.flatten(party.player.parts())
    tensors.update({f"loose.{key}": value for key, value in party.player.loose().items()})
    tensors.update({f"kept.{key}": value for key, value in party.kept.items()})
    tensors.update({f"heard.{other}": mean for other, mean in party.absence.means().items()})
    for place, mounted in enumerate(outbox.mounted):
        for other, carried in mounted.states.items():
            tensors.update({f"defense.{place}.{other}.{key}": value for key, value in carried.items()})
    tensors.update({f"guard.{key}": value for key, value in party.gate.loose().items()})
    lost = outbox.feedback.lost if outbox.feedback else {}
    tensors.update({f"feedback.{key}": value for key, value in lost.items()})
    chains = {other: link.hex() for other, link in outbox.chains.items()}
    return tensors, {"chains": chains, "sent_bytes": dict(outbox.sent_bytes)}


def load(party: Party, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, float]:
    """Take back what `state` gave, and report the counts that a party reports once it has its rows."""
    party.player.resume({key.removeprefix("loose."): value for key, value in tensors.items()})
    report = party.prepare()
    checkpoint.restore(party.player.parts(), tensors)
    party.kept = part(tensors, "kept")
    party.absence.heard = part(tensors, "heard")
    party.gate.resume(part(tensors, "guard"))
    party.outbox.chains = {other: bytes.fromhex(link) for other, link in facts["chains"].items()}
    party.outbox.sent_bytes = {Kind(kind): count for kind, count in facts["sent_bytes"].items()}
    if party.outbox.feedback:
        party.outbox.feedback.resume(part(tensors, "feedback"))
    for key, value in part(tensors, "defense").items():
        place, other, name = key.split(".", 2)
        party.outbox.mounted[int(place)].states.setdefault(other, {})[name] = value
    return report


def save(party: Party, name: str, step: int) -> None:
    """Write a checkpoint of this name after its transcript, if this party has a folder; `step` is the next round."""
    path = party.spec.path("checkpoints", f"{name}.safetensors")
    if path is None:
        return
    if party.outbox.recorder:
        party.outbox.recorder.flush()
    tensors, facts = state(party)
    checkpoint.save(path, tensors, {"step": step, **facts})


def save_step(party: Party, step: int) -> None:
    """Write the checkpoint of a step, and drop those that nobody will ask for."""
    save(party, f"step-{step:09d}", step)
    folder = party.spec.path("checkpoints")
    for path in [] if folder is None else sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
        path.unlink()


def restore_step(party: Party, step: int) -> dict[str, float]:
    """Go back to the checkpoint of a step, transcript and all, and report counts."""
    path = party.spec.path("checkpoints", f"step-{step:09d}.safetensors")
    if path is None:
        raise DataError(f"{party.spec.party} keeps no checkpoints; give it a folder of its own")
    report = load(party, *checkpoint.load(path))
    if party.outbox.recorder:
        party.outbox.recorder.cut_back(step)
    return report


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint holds under a name, such as `heard`, by what comes after it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
