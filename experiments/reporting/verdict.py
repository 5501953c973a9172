"""What a reader takes home, in plain words: what to use at a tolerated loss, what still leaks, how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.reporting.compared import ALONE, UTILITY, Compared
from experiments.reporting.estimate import Estimate, paired, seeds_needed
from experiments.reporting.grades import (
    ALPHA,
    FIRM,
    FIRM_SEEDS,
    LIKELY,
    OPEN,
    Graded,
    choose,
    cost,
    leakage,
    sure_that,
    undecided,
)
from experiments.reporting.leaks import HIDDEN, ONE_SEED, OUTCOMES, PERHAPS, UNSURE, Leak
from experiments.reporting.points import Study
from experiments.reporting.words import interval, leak_value, points_of, share, signed_points

TOLERANCES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)
USUAL = 0.005
MUCH = 0.1
"""A leak that is smaller by this share of the way is worth a word."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line, and in smaller print what it rests on."""

    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer in one scene at one tolerated loss; `headline` is one sentence, `sure` firm, likely or open.

    `choice` is the point it recommends, `None` where there is none. `why` says what the grade rests on, `leaks` what is
    still learned under the choice, `also` what else a reader should know before acting.
    """

    scene: str
    tolerance: float
    headline: str
    choice: Compared | None
    sure: str
    why: tuple[str, ...]
    leaks: tuple[Said, ...]
    also: tuple[str, ...]


def verdict(study: Study, scene: Sequence[Compared], tolerance: float = USUAL) -> Verdict:
    """Return the answer for the points of one scene."""
    if study.lever == "method":
        return ranked(scene, tolerance, lambda each: each.point.label)
    base = next((each for each in scene if each.point.undefended), None)
    others = [each for each in scene if not each.point.undefended]
    if base is None or not others or all(each.worst is None for each in others):
        return _of_no_choice(scene, tolerance)
    return _of_defenses(base, others, tolerance)


def _of_defenses(base: Compared, others: Sequence[Compared], tolerance: float) -> Verdict:
    scene = base.point.scene
    graded = [Graded(each, tolerance, len(others)) for each in others if each.worst is not None]
    chosen = choose(graded)
    if chosen is not None:
        choice, sure = chosen.of, chosen.sure if chosen.shown else OPEN
        told = _use(choice) if chosen.shown else _no_help(choice)
        also = (*_firmer(chosen, graded), *_also(base, choice, others, tolerance))
        return Verdict(scene, tolerance, told, choice, sure, _why(chosen), still(choice, base), also)
    mean = min((each.loss.value for each in others if each.loss is not None), default=None)
    cheapest = "" if mean is None else f" The cheapest costs {points_of(mean)}."
    told = f"No defense tried here stays within {points_of(tolerance)} of AUC.{cheapest}"
    return Verdict(
        scene,
        tolerance,
        told,
        None,
        OPEN,
        _seeds_told(base),
        still(base),
        ("The leaks named are those of no defense.",),
    )


def _use(choice: Compared) -> str:
    assert choice.saved is not None
    left = leakage(choice)
    fall = f"the worst leak falls from {share(left + choice.saved.value)} to {share(left)}"
    return f"Use {choice.point.label}: {fall}, for {points_of(cost(choice))} of AUC."


def _no_help(choice: Compared) -> str:
    told = f"No defense within the tolerance is shown to hide anything; {choice.point.label} leaks least"
    if choice.unmeasured:
        return f"{told} of what was measured, but {', '.join(choice.unmeasured)} has no figure under it."
    return f"{told}, but it is not told apart from no defense."


def _why(chosen: Graded) -> tuple[str, ...]:
    choice = chosen.of
    assert choice.loss is not None
    lines = [f"It costs {_loss(choice.loss)}, of the {points_of(chosen.tolerance)} tolerated.", _bound_told(chosen)]
    if choice.worst is not None and choice.saved is not None:
        before = choice.worst.value + choice.saved.value
        lines.append(
            f"The best attack's advantage over guessing falls from {share(before)} to {share(choice.worst.value)}"
            f", by {share(choice.saved.value)}{interval(choice.saved, share)}."
        )
        if chosen.help == LIKELY and chosen.cost == FIRM:
            lines.append(f"That it falls is sure taken alone, not counting that it was picked out of {chosen.looks}.")
    return (*lines, *_seeds_told(choice))


def _bound_told(chosen: Graded) -> str:
    """Return what the cost is bounded by, and what would make it surer."""
    loss, looks, tolerance = chosen.of.loss, chosen.looks, chosen.tolerance
    assert loss is not None
    most = loss.at_most(ALPHA / looks)
    counted = f"Even with all {looks} defenses looked at counted, it" if looks > 1 else "It"
    if most is None:
        return "One seed says nothing about another: run three or more, five for a decision."
    if chosen.cost == FIRM:
        return f"{counted} costs at most {points_of(most)}."
    if chosen.cost == LIKELY and most <= tolerance:
        return f"{counted} costs at most {points_of(most)}; with {FIRM_SEEDS} seeds or more this would be called firm."
    if chosen.cost == LIKELY:
        return (
            f"Taken alone it stays within the tolerance; counting that it was picked out of {looks}, it may cost up "
            f"to {points_of(most)}."
        )
    needed = seeds_needed(loss, tolerance, ALPHA)
    more = f"about {needed} seeds would settle it" if needed and needed > loss.n else _unsettled(loss)
    return f"On average it is within the tolerance, but its bound is {points_of(most)}: {more}."


def _unsettled(loss: Estimate) -> str:
    if loss.shared:
        return "more seeds of this table may never settle it; a larger one would"
    return "run more seeds"


def _loss(loss: Estimate) -> str:
    return f"{points_of(loss.value)} of AUC{interval(loss, signed_points)}"


def _seeds_told(each: Compared) -> tuple[str, ...]:
    count = len(each.point.seeds)
    if count == 1:
        return ("All of this is one seed.",)
    redrawn = each.point.first("config.holdout.by") == "random"
    told = (
        f"{count} seeds, compared seed by seed; each redraws {'the test rows, ' if redrawn else ''}the initial weights"
    )
    told += " and the row order." if redrawn else " and the row order, not the test rows."
    shared = "All seeds cut one table: intervals of leakage speak of its rows, and of no others."
    if each.point.shared:
        shared += " Those of AUC are widened for the rows that seeds share (Nadeau and Bengio)."
    return (told, shared) if count >= 5 else (told, shared, f"{count} seeds are few: intervals are wide on purpose.")


def still(choice: Compared, base: Compared | None = None) -> tuple[Said, ...]:
    """Return one line for each attack that learns something at a point, strongest first, and one for the rest.

    With a `base`, what each attack learns there is said too.
    """
    ranked = sorted(choice.leaks.values(), key=lambda leak: -leak.advantage.value)
    before = {} if base is None else base.leaks
    lines = [_leak_line(leak, before.get(leak.attack)) for leak in ranked if leak.reading != HIDDEN]
    quiet = [leak for leak in ranked if leak.reading == HIDDEN]
    if quiet:
        most = max(leak.advantage.high if leak.advantage.high is not None else leak.advantage.value for leak in quiet)
        names = ", ".join(leak.attack for leak in quiet)
        told = f"Not told apart from guessing: {names}; at most {share(min(most, 1.0))} of the way to knowing."
        lines.append(Said(told))
    return tuple(lines or [Said("Nothing was attacked, so nothing is known about leakage.")])


def _leak_line(leak: Leak, before: Leak | None) -> Said:
    surely = {PERHAPS: "probably ", ONE_SEED: "in this one run ", UNSURE: "in one run, without an interval, "}.get(
        leak.reading, ""
    )
    way = f"{surely}{share(leak.advantage.value)} of the way from guessing to knowing"
    undefended = "" if before is None else f"; {share(before.advantage.value)} without a defense"
    if leak.target in OUTCOMES:
        told = f"{surely}{share(leak.advantage.value)} of the way from none of its answers to all"
        return Said(f"{leak.attack} spoils the model: {told}{undefended}.", f"{leak_value(leak)}. {leak.does}".strip())
    return Said(f"{leak.attack} learns {leak.target}: {way}{undefended}.", f"{leak_value(leak)}. {leak.does}".strip())


def _firmer(chosen: Graded, graded: Sequence[Graded]) -> list[str]:
    """Return what to use where only the firm will do, if the choice is not firm and something else is."""
    firm = [each for each in graded if each.sure == FIRM]
    if chosen.sure == FIRM or not firm:
        return []
    best = min(firm, key=lambda each: leakage(each.of)).of
    left, lost = share(leakage(best)), points_of(cost(best))
    return [f"Where only what is firm will do: {best.point.label}, whose worst leak is {left}, for {lost}."]


def _also(base: Compared, choice: Compared, others: Sequence[Compared], tolerance: float) -> tuple[str, ...]:
    lines = [
        f"{', '.join(each.unmeasured)} has no figure under {each.point.label}: what it learns there is unknown."
        for each in others
        if each.unmeasured
    ]
    better = [
        each
        for each in others
        if each is not choice
        and leakage(each) < leakage(choice)
        and each.loss is not None
        and each.loss.value <= tolerance
    ]
    tied = [each.point.label for each in better if undecided(choice, each)]
    if tied:
        named = max(choice.leaks.values(), key=lambda leak: leak.advantage.value).attack
        lines.append(f"These seeds do not tell it apart in its worst leak ({named}) from {', '.join(tied)}.")
        lines += _held_better(choice, [each for each in better if each.point.label in tied])
    for each in sorted((each for each in better if each.point.label not in tied), key=leakage)[:1]:
        price = points_of(cost(each))
        lines.append(
            f"{each.point.label} leaks less ({share(leakage(each))}) and on average costs {price}, but the seeds run "
            "do not show that it stays within the tolerance."
        )
    kept = choice.gain_kept
    alone = choice.point.estimate(ALONE)
    if kept is not None and alone is not None and base.auc is not None:
        added = points_of(base.auc.value - alone.value)
        lines.append(f"It keeps {share(kept)} of the {added} of AUC that the partner's data adds.")
    lines.append("Leakage is what the attacks tried here found: a lower bound. An attack not tried may find more.")
    return tuple(lines)


def _held_better(choice: Compared, tied: Sequence[Compared]) -> list[str]:
    """Return which of the tied holds another attack down by far more: the worst leak alone does not show it."""
    gains = [
        (leak.advantage.value - each.leaks[name].advantage.value, name, each)
        for each in tied
        for name, leak in choice.leaks.items()
        if name in each.leaks
    ]
    gained, name, each = max(gains, key=lambda gain: gain[0], default=(0.0, "", choice))
    if gained < MUCH:
        return []
    left, here = share(each.leaks[name].advantage.value), share(choice.leaks[name].advantage.value)
    return [
        f"Of these {each.point.label} holds {name} to {left}, where it is {here} here, for {points_of(cost(each))}."
    ]


def ranked(
    points: Sequence[Compared], tolerance: float, name: Callable[[Compared], str], more: tuple[str, ...] = ()
) -> Verdict:
    """Return which of several points has the highest AUC and how sure it is ahead of each other; `name` names them."""
    ordered = sorted((each for each in points if each.auc is not None), key=lambda each: -_auc(each))
    if not ordered:
        return _of_no_choice(points, tolerance)
    best, others = ordered[0], ordered[1:]
    leads = {name(each): _lead(best, each) for each in others}
    sure = [_ahead(lead, len(others)) for lead in leads.values()]
    why = [f"It reaches an AUC of {_auc(best):.4f}{interval(best.auc, lambda value: f'{value:.4f}')}."]
    for label in dict.fromkeys([*(["vanilla"] if "vanilla" in leads else []), *list(leads)[:1]]):
        lead = leads[label]
        if lead is not None:
            why.append(f"That is {points_of(lead.value)} more than {label}{interval(lead, signed_points)}.")
    unsettled = [label for label, grade in zip(leads, sure, strict=True) if grade == OPEN]
    if unsettled:
        why.append(f"These seeds do not show it to be ahead of {', '.join(unsettled)}.")
    near = [name(each) for each in others if _auc(best) - _auc(each) <= tolerance]
    scenes = {each.point.scene for each in points}
    return Verdict(
        scenes.pop() if len(scenes) == 1 else "",
        tolerance,
        f"{name(best)} has the highest AUC.",
        best,
        max(sure, key=(FIRM, LIKELY, OPEN).index, default=OPEN),
        (*why, *_seeds_told(best)),
        still(best),
        (*((f"Within {points_of(tolerance)} of it: {', '.join(near)}.",) if near else ()), *more),
    )


def _lead(best: Compared, other: Compared) -> Estimate | None:
    return paired(best.point.by_seed(UTILITY), other.point.by_seed(UTILITY), best.point.shared)


def _ahead(lead: Estimate | None, looks: int) -> str:
    """Return how sure it is that a method is ahead of another."""
    return OPEN if lead is None else sure_that(lead, looks, lambda ends: ends[0] > 0)


def _auc(each: Compared) -> float:
    return 0.0 if each.auc is None else each.auc.value


def _of_no_choice(scene: Sequence[Compared], tolerance: float) -> Verdict:
    only = max(scene, key=_auc)
    if len(scene) == 1:
        told = "This report shows one configuration: what it is worth and what it leaks. To choose, sweep defenses."
    elif all(each.worst is None for each in scene):
        told = "Nothing was attacked here, so no defense can be recommended; compare utility and cost below."
    else:
        told = "No trial without a defense is among these rows, so what a defense costs cannot be told."
    return Verdict(only.point.scene, tolerance, told, None, OPEN, _seeds_told(only), still(only), ())
