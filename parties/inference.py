"""The job that an attack runs in: confined to its view, it can reach nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfl import checkpoint
from vfl.attacks import Attack, Guess
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.store import load_view
from vfl.transcript import Hints


def infer(attack: Mapping[str, Any], view: Mapping[str, Any], hints: str, seed: int, out: str) -> None:
    """Run one attack on its view and write its guess to `out`.

    `view` names the transcript folders, the parties that look and the number of classes. The attack's random stream
    starts from `seed`, from which no stream of the run can be computed.
    """
    member: Attack = build("attack", attack)
    folders = [Path(folder) for folder in view["folders"]]
    seen = load_view(folders, tuple(view["parties"]), view["classes"], read_hints(hints))
    guess = member.infer(seen, Seeds(seed).torch("infer"))
    tensors = {"steps": guess.steps, "rows": guess.rows, "scores": guess.scores}
    checkpoint.save(Path(out), {name: value.contiguous() for name, value in tensors.items()}, {"target": guess.target})


def read_hints(path: str) -> Hints:
    """Return the labelled rows in a hints file."""
    tensors, _ = checkpoint.load(Path(path))
    return Hints(tensors["rows"], tensors["labels"])


def read_guess(path: str) -> Guess:
    """Return the guess in a file that `infer` wrote."""
    tensors, facts = checkpoint.load(Path(path))
    return Guess(facts["target"], tensors["steps"], tensors["rows"], tensors["scores"])
