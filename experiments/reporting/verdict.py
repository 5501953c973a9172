"""What a reader takes home, in plain words: what to use at a tolerated loss, what still leaks, how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.reporting.compared import ALONE, Compared
from experiments.reporting.estimate import LEVEL, Estimate, paired, seeds_needed
from experiments.reporting.leaks import HIDDEN, ONE_SEED, PERHAPS, Leak
from experiments.reporting.points import Study
from experiments.reporting.words import interval, leak_value, points_of, share, signed_points

TOLERANCES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)
USUAL = 0.005
FIRM_SEEDS = 5
"""Fewer seeds are never called firm: a spread known from a handful of them rests on the normal law alone."""
FIRM, LIKELY, OPEN = "firm", "likely", "open"
ALPHA = 1 - LEVEL


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
        return _of_methods(scene, tolerance)
    base = next((each for each in scene if each.point.undefended), None)
    others = [each for each in scene if not each.point.undefended]
    if base is None or not others or all(each.worst is None for each in others):
        return _of_no_choice(scene, tolerance)
    return _of_defenses(base, others, tolerance)


def _of_defenses(base: Compared, others: Sequence[Compared], tolerance: float) -> Verdict:
    name = base.point.scene
    graded = [(each, _grade(each, tolerance, len(others))) for each in others if each.worst is not None]
    for sure in (FIRM, LIKELY, OPEN):
        inside = [each for each, grade in graded if grade == sure]
        if inside:
            choice = _cheapest_of_the_best(inside)
            helps = _helps(choice, len(others))
            told = _use(choice) if helps else _no_help(choice)
            graded_now = sure if helps else OPEN
            why = _why(choice, tolerance, len(others), graded_now)
            also = _also(base, choice, [each for each, _ in graded], tolerance)
            return Verdict(name, tolerance, told, choice, graded_now, why, still(choice, base), also)
    mean = min((each.loss.value for each, _ in graded if each.loss is not None), default=None)
    cheapest = "" if mean is None else f" The cheapest costs {points_of(mean)}."
    told = f"No defense tried here stays within {points_of(tolerance)} of AUC.{cheapest}"
    return Verdict(
        name, tolerance, told, None, OPEN, _seeds_told(base), still(base), ("The leaks named are those of no defense.",)
    )


def _grade(each: Compared, tolerance: float, looks: int) -> str:
    """Return how sure it is that a defense costs no more than the tolerance; empty where it costs more on average."""
    if each.loss is None or each.loss.value > tolerance:
        return ""
    for alpha, grade in ((ALPHA / looks, FIRM), (ALPHA, LIKELY)):
        most = each.loss.at_most(alpha)
        if most is not None and most <= tolerance:
            return grade if each.loss.n >= FIRM_SEEDS else LIKELY
    return OPEN


def _helps(each: Compared, looks: int) -> bool:
    """Return whether it hides something for sure, all looks counted, or at all where a single seed tells nothing."""
    if each.saved is None:
        return False
    ends = each.saved.bounds(ALPHA / looks)
    return each.saved.value > 0 if ends is None else ends[0] > 0


def _cheapest_of_the_best(inside: Sequence[Compared]) -> Compared:
    """Return what leaks least; of those that seeds do not show to leak more than it, the one that costs least."""
    least = min(inside, key=_leakage)
    return min((each for each in inside if each is least or _ties(each, least)), key=_cost)


def _ties(each: Compared, least: Compared) -> bool:
    """Return whether seeds leave it open which of two leaks less; one seed tells nothing, so it is no tie."""
    difference = paired(each.worst_by_seed, least.worst_by_seed)
    ends = None if difference is None else difference.bounds(ALPHA)
    return ends is not None and ends[0] <= 0


def _cost(each: Compared) -> float:
    return 0.0 if each.loss is None else each.loss.value


def _use(choice: Compared) -> str:
    assert choice.saved is not None
    left = _leakage(choice)
    fall = f"the worst leak falls from {share(left + choice.saved.value)} to {share(left)}"
    return f"Use {choice.point.label}: {fall}, for {points_of(_cost(choice))} of AUC."


def _no_help(choice: Compared) -> str:
    return (
        f"No defense within the tolerance is shown to hide anything; {choice.point.label} leaks least, "
        "but it is not told apart from no defense."
    )


def _leakage(each: Compared) -> float:
    return 1.0 if each.worst is None else each.worst.value


def _why(choice: Compared, tolerance: float, looks: int, sure: str) -> tuple[str, ...]:
    assert choice.loss is not None
    lines = [f"It costs {_loss(choice.loss)}, of the {points_of(tolerance)} tolerated."]
    most = choice.loss.at_most(ALPHA / looks)
    if sure == FIRM and most is not None:
        lines.append(f"Even with all {looks} defenses looked at counted, it costs at most {points_of(most)}.")
    elif sure == LIKELY and most is not None and most <= tolerance:
        lines.append(
            f"Even with all {looks} defenses looked at counted, it costs at most {points_of(most)}; "
            f"with {FIRM_SEEDS} seeds or more this would be called firm."
        )
    elif sure == LIKELY and most is not None:
        lines.append(
            f"Taken alone it stays within the tolerance; counting that it was picked out of {looks}, it may cost up "
            f"to {points_of(most)}."
        )
    elif choice.loss.n == 1:
        lines.append("One seed says nothing about another: run three or more, five for a decision.")
    else:
        needed = seeds_needed(choice.loss, tolerance, ALPHA)
        more = f"about {needed} seeds would settle it" if needed and needed > choice.loss.n else "run more seeds"
        lines.append(f"On average it is within the tolerance, but its bound is {points_of(most or 0)}: {more}.")
    if choice.worst is not None and choice.saved is not None:
        before = choice.worst.value + choice.saved.value
        lines.append(
            f"The best attack's advantage over guessing falls from {share(before)} to {share(choice.worst.value)}"
            f", by {share(choice.saved.value)}{interval(choice.saved, share)}."
        )
    return (*lines, *_seeds_told(choice))


def _loss(loss: Estimate) -> str:
    return f"{points_of(loss.value)} of AUC{interval(loss, signed_points)}"


def _seeds_told(each: Compared) -> tuple[str, ...]:
    count = len(each.point.seeds)
    if count == 1:
        return ("All of this is one seed.",)
    told = f"{count} seeds, compared seed by seed; each redraws the test rows, the initial weights and the row order."
    return (told,) if count >= 5 else (told, f"{count} seeds are few: intervals are wide on purpose.")


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
    surely = {PERHAPS: "probably ", ONE_SEED: "in this one run "}.get(leak.reading, "")
    way = f"{surely}{share(leak.advantage.value)} of the way from guessing to knowing"
    undefended = "" if before is None else f"; {share(before.advantage.value)} without a defense"
    return Said(f"{leak.attack} learns {leak.target}: {way}{undefended}.", f"{leak_value(leak)}. {leak.does}".strip())


def _also(base: Compared, choice: Compared, others: Sequence[Compared], tolerance: float) -> tuple[str, ...]:
    lines: list[str] = []
    better = [
        each
        for each in others
        if each is not choice
        and _leakage(each) < _leakage(choice)
        and each.loss is not None
        and each.loss.value <= tolerance
    ]
    tied = [each.point.label for each in better if _ties(choice, each)]
    if tied:
        lines.append(f"These seeds do not tell it apart in leakage from {', '.join(tied)}.")
    for each in sorted((each for each in better if each.point.label not in tied), key=_leakage)[:1]:
        cost = points_of(_cost(each))
        lines.append(
            f"{each.point.label} leaks less ({share(_leakage(each))}) and on average costs {cost}, but the seeds run "
            "do not show that it stays within the tolerance."
        )
    kept = choice.gain_kept
    alone = choice.point.estimate(ALONE)
    if kept is not None and alone is not None and base.auc is not None:
        added = points_of(base.auc.value - alone.value)
        lines.append(f"It keeps {share(kept)} of the {added} of AUC that the partner's data adds.")
    lines.append("Leakage is what the attacks tried here found: a lower bound. An attack not tried may find more.")
    return tuple(lines)


def _of_methods(scene: Sequence[Compared], tolerance: float) -> Verdict:
    ranked = sorted((each for each in scene if each.auc is not None), key=lambda each: -_auc(each))
    name = scene[0].point.scene
    if not ranked:
        return _of_no_choice(scene, tolerance)
    best = ranked[0]
    why = [f"It reaches an AUC of {_auc(best):.4f}{interval(best.auc, lambda value: f'{value:.4f}')}."]
    sure = OPEN
    if best.loss is not None:
        gained = f"{points_of(-best.loss.value)} more than vanilla"
        ends = best.loss.bounds(ALPHA / max(len(scene) - 1, 1))
        one = best.loss.bounds(ALPHA)
        sure = FIRM if ends and ends[1] < 0 else LIKELY if one and one[1] < 0 else OPEN
        why.append(f"{gained}{interval(best.loss, lambda value: signed_points(-value))}.")
    near = [each.point.label for each in ranked[1:] if _auc(best) - _auc(each) <= tolerance]
    also = (f"Within {points_of(tolerance)} of it: {', '.join(near)}.",) if near else ()
    return Verdict(
        name,
        tolerance,
        f"{best.point.label} has the highest AUC.",
        best,
        sure,
        (*why, *_seeds_told(best)),
        still(best),
        also,
    )


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
