"""The referee's work after a run, as jobs for a clean process: each reads truth and the run's folders, returns figures.

Arguments are references and folders; results are JSON. Nothing row-level leaves but the hints that a threat grants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parties.inference import GRANT_FILE, read_guess, read_hints, read_log
from parties.leftovers import pseudo_labels, read_leftover, write_leftover
from parties.panel import known_handles
from parties.referee import ORDER_FILE, SCORES_FILE
from parties.references import alone, central
from parties.settle import Settled, leftover, settled
from parties.spec import PartySpec
from parties.twin import TWIN
from vfl import checkpoint
from vfl.attacks import Guess
from vfl.data.cut import Shard
from vfl.data.shard import labels_of, load_ids
from vfl.errors import VflError
from vfl.holding import TABLE_FILE, load_table, save_table
from vfl.metrics.utility import Utility, gain
from vfl.referee import Truth, everything, mark, metric_of, refuse_hinted
from vfl.referee import grant as labelled
from vfl.registry import build
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Batch, Role

Figures = dict[str, Any]


def open_truth(shard: Shard, folder: str, classes: int) -> tuple[Truth, Settled]:
    """Return the truth by handle, and which row each handle is."""
    tensors, _ = checkpoint.load(Path(folder) / ORDER_FILE)
    found = settled(tensors["order"], shard)
    labels = torch.from_numpy(labels_of(shard, found.ids.numpy()))
    return Truth(Sealed(labels), found.sizes[0], classes, read_leftover(folder)), found


def judge(
    specs: Sequence[PartySpec], folder: str, references: Sequence[str], seeds: Seeds, cache: str | None = None
) -> Figures:
    """Return the utility of the joint model and of the references, and what the publishers' data adds.

    `gain` compares the joint model with the advertiser alone, by a paired bootstrap over the same test rows. Scores of
    references are kept in the folder `cache`, where there is one, for runs that differ in nothing they depend on.
    """
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    torch.set_num_threads(advertiser.train.threads)
    truth, found = open_truth(_shard(advertiser), folder, advertiser.classes)
    write_leftover(specs, folder, found)
    truth = replace(truth, leftover=read_leftover(folder))
    joint, test = tested(truth, found, folder)
    scores = {"test": joint, **_references(specs, references, truth, found, cache)}
    if (Path(folder) / TWIN).is_dir():
        scores[TWIN] = tested(truth, found, str(Path(folder) / TWIN))[0]
    utility = {name: Utility().result(score, test, seeds.numpy("utility", name)) for name, score in scores.items()}
    figures: Figures = {"utility": utility, "gain": {}, "positives": _positives(truth), "base_rate": _base_rate(truth)}
    figures["method"] = pseudo_labels(truth, folder)
    if "advertiser_alone" in scores:
        figures["gain"] = gain(joint, scores["advertiser_alone"], test, seeds.numpy("gain"))
        figures["gain"]["per_publisher"] = _per_publisher(specs, truth, found, scores, utility)
    return figures


def tested(truth: Truth, found: Settled, folder: str) -> tuple[Tensor, Tensor]:
    """Return the joint model's `(test, classes)` probabilities and the `(test,)` classes, in the order of handles."""
    first = found.sizes[0] + found.sizes[1]
    tensors, _ = checkpoint.load(Path(folder) / SCORES_FILE)
    joint = torch.empty_like(tensors["scores"])
    joint[tensors["rows"] - first] = tensors["scores"]
    return joint, truth.labels.open()[first:]


def hint(
    shard: Shard, folder: str, classes: int, grants: Mapping[str, Mapping[str, Any]], victims: Mapping[str, str]
) -> Figures:
    """Write what the threat model grants each attack to the folder that `grants` names it by.

    A grant holds `labelled_rows` and `known_rows` (`None` for all training rows: an upper-bound run), `prior`,
    `scores`, `victim_models`, and the `seeds` of the draw. `victims` are the folders of the parties under attack.
    Returns how many labelled rows of each class each grant has.
    """
    truth, _ = open_truth(shard, folder, classes)
    return {out: _hint(truth, folder, grant, victims, Path(out)) for out, grant in grants.items()}


def _hint(truth: Truth, folder: str, grant: Mapping[str, Any], victims: Mapping[str, str], out: Path) -> list[int]:
    seeds: Seeds = grant["seeds"]
    every = grant["labelled_rows"] is None
    granted = everything(truth) if every else labelled(truth, grant["labelled_rows"], seeds)
    tensors = {"rows": granted.rows, "labels": granted.labels}
    if grant["prior"]:
        counts = torch.bincount(truth.labels.open()[: truth.train], minlength=truth.classes)
        tensors["prior"] = counts.double() / counts.sum()
    if grant["scores"]:
        found, _ = checkpoint.load(Path(folder) / SCORES_FILE)
        tensors |= {"score_rows": found["rows"], "scores": found["scores"]}
    checkpoint.save(out / GRANT_FILE, tensors, {})
    known = known_handles(truth.train, grant["known_rows"], seeds)
    for party, place in victims.items():
        if grant["victim_models"] or len(known):
            _hint_victim(Path(place), known, grant["victim_models"], out / f"victim-{party}.safetensors")
    return torch.bincount(granted.labels, minlength=truth.classes).tolist()


def _hint_victim(place: Path, known: Tensor, models: bool, out: Path) -> None:
    batch, schema, _ = load_table(place / TABLE_FILE)
    tensors = checkpoint.load(place / "checkpoints" / "final.safetensors")[0] if models else {}
    networks = {key: value for key, value in tensors.items() if key.startswith(("bottom.", "top."))}
    rows = Batch(batch.rows[known], batch.numeric[known], batch.categorical[known])
    save_table(out, rows, schema, networks)


def marks(
    shard: Shard,
    folder: str,
    classes: int,
    guesses: Mapping[str, Mapping[str, Any]],
    victims: Mapping[str, str],
    networks: Mapping[str, Any],
) -> Figures:
    """Return the figures of each attack by its key: of its `guess`, and its bound from the `upper` one that knew all.

    Each entry of `guesses` also names the `grant` its guess was made with and the `seeds` of its intervals; `networks`
    are those of the parties. A guess that cannot be marked has an `error` instead: it must not lose the others.
    """
    truth, _ = open_truth(shard, folder, classes)
    tables = {party: load_table(Path(place) / TABLE_FILE)[:2] for party, place in victims.items()}
    truth = replace(truth, tables=tables, answers=_answers(Path(folder)))
    if (Path(folder) / TWIN).is_dir():
        truth = replace(truth, honest=_answers(Path(folder) / TWIN))
    found: Figures = {}
    for key, made in guesses.items():
        try:
            guess = read_guess(made["guess"])
            refuse_hinted(guess, read_hints(Path(made["grant"]), networks, Seeds(0)))
            found[key] = figures_of(guess, read_guess(made["upper"]), truth, made["seeds"])
            found[key]["reads"] = read_log(made["guess"])
        except Exception as error:  # whatever an attack left in its guess
            told = str(error) if isinstance(error, VflError) else f"{type(error).__name__}: {error}"
            found[key] = {"target": None, "error": f"it failed: {told}"}
    return found


def _answers(folder: Path) -> tuple[Tensor, Tensor]:
    asked, _ = checkpoint.load(folder / SCORES_FILE)
    return asked["rows"], asked["scores"].argmax(dim=1)


def figures_of(guess: Guess, best: Guess, truth: Truth, seeds: Seeds) -> Figures:
    """Return a guess's figures, `upper` from the `best` guess, and the headline figure of each of its controls."""
    metric = build("metric", metric_of(guess, truth))
    figures = mark(guess, truth, metric, seeds)
    headline: str = metric.headline
    reached = [mark(best, truth, metric, seeds)[headline], figures[headline]]
    known = [value for value in reached if value is not None]
    if "sign_free" in figures:
        # An attack that takes no hints scores the same when it knows all labels: its bound is the better of both signs,
        # one for the whole run. `sign_free` takes the better one in every batch, which chance alone lifts above a half.
        known += [1 - value for value in known]
    figures["upper"] = (max if metric.more_is_worse else min)(known) if known else None
    if guess.target == "labels" and truth.classes == 2 and guess.scores.ndim == 2:
        figures = _with_decisions(guess, truth, figures, seeds)
    if guess.controls:
        held = {name: replace(guess, scores=scores, controls={}) for name, scores in guess.controls.items()}
        figures["controls"] = {name: mark(each, truth, metric, seeds)[headline] for name, each in held.items()}
    return {"target": guess.target, **figures}


def _with_decisions(guess: Guess, truth: Truth, figures: Figures, seeds: Seeds) -> Figures:
    """Add how often the attack's own decision between two classes is right; the headline stays the leak AUC."""
    decided = mark(guess, truth, build("metric", "recovery"), seeds)
    added = {name: decided[name] for name in ("accuracy", "balanced_accuracy", "majority")}
    return {**figures, **added, "chance": {**decided["chance"], **(figures["chance"] or {})}}


def _references(
    specs: Sequence[PartySpec], names: Sequence[str], truth: Truth, found: Settled, cache: str | None
) -> dict[str, Tensor]:
    labels = truth.labels.open()
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    makers: dict[str, Callable[[], Tensor]] = {
        "advertiser_alone": lambda: _alone(advertiser, found, labels),
        "central": lambda: central(specs, found, labels),
    }
    return {name: _kept(cache, name, make) for name, make in makers.items() if name in names}


def _kept(cache: str | None, name: str, make: Callable[[], Tensor]) -> Tensor:
    """Return scores from the cache, or make and keep them; two processes that make them at once make the same."""
    if cache is None:
        return make()
    path = Path(cache) / f"{name}.safetensors"
    if not path.exists():
        checkpoint.save_shared(path, {"scores": make()}, {})
    return checkpoint.load(path)[0]["scores"]


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
