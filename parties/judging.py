"""The referee's work after a run, as jobs for a clean process: each reads truth and the run's folders, returns figures.

Arguments are references and folders; results are JSON. Nothing row-level leaves but the hints that a threat grants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parties.inference import read_guess, read_hints
from parties.leftovers import pseudo_labels, read_leftover, write_leftover
from parties.referee import ORDER_FILE, SCORES_FILE
from parties.references import alone, central
from parties.settle import Settled, leftover, settled
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.data.cut import Shard
from vfl.data.shard import labels_of, load_ids
from vfl.metrics.utility import Utility, gain
from vfl.referee import Truth, everything, grant, mark, refuse_hinted
from vfl.registry import build
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Role

Figures = dict[str, Any]


def open_truth(shard: Shard, folder: str, classes: int) -> tuple[Truth, Settled]:
    """Return the truth by handle, and which row each handle is."""
    tensors, _ = checkpoint.load(Path(folder) / ORDER_FILE)
    found = settled(tensors["order"], shard)
    labels = torch.from_numpy(labels_of(shard, found.ids.numpy()))
    return Truth(Sealed(labels), found.sizes[0], classes, read_leftover(folder)), found


def judge(specs: Sequence[PartySpec], folder: str, references: Sequence[str], seeds: Seeds) -> Figures:
    """Return the utility of the joint model and of the references, and what the publishers' data adds.

    `gain` compares the joint model with the advertiser alone, by a paired bootstrap over the same test rows.
    """
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    torch.set_num_threads(advertiser.train.threads)
    _, found = open_truth(_shard(advertiser), folder, advertiser.classes)
    write_leftover(specs, folder, found)
    truth, _ = open_truth(_shard(advertiser), folder, advertiser.classes)
    sizes = found.sizes
    tensors, _ = checkpoint.load(Path(folder) / SCORES_FILE)
    joint = torch.empty_like(tensors["scores"])
    joint[tensors["rows"] - sizes[0] - sizes[1]] = tensors["scores"]
    test = truth.labels.open()[sizes[0] + sizes[1] :]
    scores = {"test": joint, **_references(specs, references, truth, found)}
    utility = {name: Utility().result(score, test, seeds.numpy("utility", name)) for name, score in scores.items()}
    figures: Figures = {"utility": utility, "gain": {}, "positives": _positives(truth), "base_rate": _base_rate(truth)}
    figures["method"] = pseudo_labels(truth, folder)
    if "advertiser_alone" in scores:
        figures["gain"] = gain(joint, scores["advertiser_alone"], test, seeds.numpy("gain"))
        figures["gain"]["per_publisher"] = _per_publisher(specs, truth, found, scores, utility)
    return figures


def hint(shard: Shard, folder: str, classes: int, labelled_rows: int, seeds: Seeds, out: str) -> Figures:
    """Write the labelled rows that the threat model grants to `out`; returns how many of each class they are."""
    truth, _ = open_truth(shard, folder, classes)
    granted = grant(truth, labelled_rows, seeds)
    checkpoint.save(Path(out), {"rows": granted.rows, "labels": granted.labels}, {})
    return {"granted": torch.bincount(granted.labels, minlength=classes).tolist()}


def hint_everything(shard: Shard, folder: str, classes: int, out: str) -> Figures:
    """Write the labels of all training rows to `out`: the grant of an upper-bound run, made by the referee alone."""
    truth, _ = open_truth(shard, folder, classes)
    granted = everything(truth)
    checkpoint.save(Path(out), {"rows": granted.rows, "labels": granted.labels}, {})
    return {"granted": len(granted.rows)}


def marks(shard: Shard, folder: str, classes: int, guesses: Mapping[str, str], hints: str, seeds: Seeds) -> Figures:
    """Return the figures of one attack: its `guess`, and its upper bound from the guess it made knowing all labels."""
    truth, _ = open_truth(shard, folder, classes)
    guess = read_guess(guesses["guess"])
    refuse_hinted(guess, read_hints(hints))
    metric = build("metric", "leak_auc")
    figures = mark(guess, truth, metric, seeds)
    best = mark(read_guess(guesses["upper"]), truth, metric, seeds)
    # An attack that takes no hints does not change its score when it knows all labels: its bound is the best sign.
    figures["upper"] = max(best["leak_auc"], figures["leak_auc"], figures["sign_free"])
    return figures


def _references(specs: Sequence[PartySpec], names: Sequence[str], truth: Truth, found: Settled) -> dict[str, Tensor]:
    labels, scores = truth.labels.open(), dict[str, Tensor]()
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    if "advertiser_alone" in names:
        scores["advertiser_alone"] = _alone(advertiser, found, labels)
    if "central" in names:
        scores["central"] = central(specs, found, labels)
    return scores


def _alone(spec: PartySpec, found: Settled, labels: Tensor) -> Tensor:
    """Train the advertiser alone, on its own leftover rows as well: it owns their labels."""
    shard = _shard(spec)
    own = torch.from_numpy(load_ids(shard))
    extra = own[leftover(shard, own, found)]
    extra_labels = torch.from_numpy(labels_of(shard, extra.numpy()).copy())
    (train, valid, test), ids = found.sizes, found.ids
    all_ids = torch.cat([ids[:train], extra, ids[train:]])
    all_labels = torch.cat([labels[:train], extra_labels, labels[train:]])
    return alone(spec, replace(found, ids=all_ids, sizes=(train + len(extra), valid, test)), all_labels)


def _per_publisher(
    specs: Sequence[PartySpec],
    truth: Truth,
    found: Settled,
    scores: Mapping[str, Tensor],
    utility: Mapping[str, Figures],
) -> Figures:
    """Return the central model's AUC lost when one publisher is left out; with one publisher, all that it adds."""
    publishers = [spec for spec in specs if spec.role == Role.PUBLISHER]
    if "central" not in scores or not publishers:
        return {}
    best = utility["central"]["auc"]
    if len(publishers) == 1:
        return {publishers[0].party: {"auc": _lost(best, utility["advertiser_alone"]["auc"])}}
    test = truth.labels.open()[sum(found.sizes[:2]) :]
    lost: Figures = {}
    for left_out in publishers:
        others = [spec for spec in specs if spec.party != left_out.party]
        without = central(others, found, truth.labels.open())
        worth = Utility(resamples=1).result(without, test, Seeds(0).numpy("unused"))["auc"]
        lost[left_out.party] = {"auc": _lost(best, worth)}
    return lost


def _lost(best: float | None, worth: float | None) -> float | None:
    return None if best is None or worth is None else best - worth


def _positives(truth: Truth) -> int | None:
    return int((truth.labels.open() == 1).sum()) if truth.classes == 2 else None


def _base_rate(truth: Truth) -> float | None:
    return float((truth.labels.open() == 1).float().mean()) if truth.classes == 2 else None


def _shard(spec: PartySpec) -> Shard:
    if spec.shard is None:
        raise ValueError(f"{spec.party} has no shard")
    return replace(spec.shard)
