"""Each point held against the baseline of its scene, seed by seed: what it costs, what it hides, how it scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.reporting.estimate import Estimate, over_seeds, paired
from experiments.reporting.leaks import Leak, leaks_of, short_names, worst
from experiments.reporting.points import Point, Study
from vfl.metrics.tradeoff import defense_score, hypervolume, pareto_front, scores_by_type

UTILITY, UTILITY_ENDS = "utility.test.auc", "utility.test.ci.auc"
ALONE = "utility.advertiser_alone.auc"


@dataclass(frozen=True)
class Compared:
    """A point and its figures; differences are paired by seed with the baseline, `None` where there is none.

    `loss` is the AUC that the baseline has more, `worst` the greatest advantage of any attack, `saved` how much less
    that is than at the baseline, of the attacks that have figures at both. `unmeasured` are attacks that have one at
    the baseline and none here: what they would learn is unknown. `score` is the defense score (C-DCS) over the attacks
    that have figures at both, `front` whether no point of the scene beats it, `baseline` whether it is the baseline.
    """

    point: Point
    auc: Estimate | None
    leaks: Mapping[str, Leak]
    worst: Estimate | None
    worst_by_seed: Mapping[int, float]
    loss: Estimate | None
    saved: Estimate | None
    score: Estimate | None
    front: bool
    unmeasured: tuple[str, ...] = ()
    baseline: bool = False

    @property
    def gain_kept(self) -> float | None:
        """The share that is kept of what the partner's data adds; `None` without a baseline or a model alone."""
        alone = self.point.estimate(ALONE)
        if alone is None or self.auc is None or self.loss is None or self.auc.value + self.loss.value <= alone.value:
            return None
        return (self.auc.value - alone.value) / (self.auc.value + self.loss.value - alone.value)


def compare(study: Study) -> list[Compared]:
    """Return every point of a study with its figures, in its order."""
    names = short_names(study.points)
    found: list[Compared] = []
    for scene in study.scenes:
        base = study.baseline(scene)
        bare = {} if base is None else leaks_of(base, names)
        found += _with_front([_compared(point, base, bare, names) for point in study.within(scene)])
    return found


def _compared(point: Point, base: Point | None, bare: Mapping[str, Leak], names: Mapping[str, str]) -> Compared:
    leaks = leaks_of(point, names)
    reached = worst(leaks)
    loss = saved = score = None
    if base is not None:
        losses = _differences(base.by_seed(UTILITY), point.by_seed(UTILITY))
        if point is not base:
            loss = over_seeds(list(losses.values()), shared=point.shared)
            saved = _saved(bare, leaks)
        score = over_seeds(list(_scores(bare, leaks, losses).values()))
    return Compared(
        point=point,
        auc=point.estimate(UTILITY, UTILITY_ENDS),
        leaks=leaks,
        worst=None if reached is None else reached[0].clipped(0.0, 1.0),
        worst_by_seed={} if reached is None else reached[1],
        loss=loss,
        saved=saved,
        score=score,
        front=False,
        unmeasured=tuple(name for name in bare if name not in leaks),
        baseline=point is base,
    )


def _saved(bare: Mapping[str, Leak], leaks: Mapping[str, Leak]) -> Estimate | None:
    """Return how much less the best attack knows than at the baseline, of the attacks that have figures at both."""
    before, after = (worst({name: each[name] for name in bare if name in leaks}) for each in (bare, leaks))
    return None if before is None or after is None else paired(before[1], after[1])


def _differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def _scores(bare: Mapping[str, Leak], leaks: Mapping[str, Leak], losses: Mapping[int, float]) -> dict[int, float]:
    """Return the C-DCS by seed: of each attack's advantage, so that guessing counts as no leakage.

    Of the attacks that the baseline and the point both have, on the seeds that all of these have figures for: a defense
    under which an attack failed, or was never tried, is not scored as if that attack had found nothing.
    """
    both = [name for name in leaks if name in bare]
    found: dict[int, float] = {}
    for seed, loss in losses.items():
        if both and all(seed in each[name].advantages for each in (bare, leaks) for name in both):
            by_type: dict[str, list[float]] = {}
            for name in both:
                by_type.setdefault(leaks[name].target, []).append(defense_score(leaks[name].advantages[seed], loss))
            found[seed] = scores_by_type(by_type)[1]
    return found


def _with_front(scene: Sequence[Compared]) -> list[Compared]:
    places = [place for place, each in enumerate(scene) if each.auc is not None and each.worst is not None]
    marks = [(_value(scene[place].auc), _value(scene[place].worst)) for place in places]
    front = {places[place] for place in pareto_front(marks)}
    return [replace(each, front=place in front) for place, each in enumerate(scene)]


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value


def volumes(scene: Sequence[Compared]) -> dict[str, Estimate]:
    """Return the hypervolume of each family of a scene, paired by seed: its strengths are one curve.

    1 is all of the rectangle between (the advertiser alone, leakage undefended) and (AUC undefended, no leakage).
    Of the seeds that every strength has figures for: a curve of fewer strengths covers less for that alone. Nothing
    where the baseline or the model alone is missing, or where they span no area.
    """
    base = next((each for each in scene if each.baseline), None)
    if base is None:
        return {}
    alone, joint = base.point.by_seed(ALONE), base.point.by_seed(UTILITY)
    found: dict[str, Estimate] = {}
    for family in dict.fromkeys(each.point.family for each in scene if each is not base):
        members = [each for each in scene if each.point.family == family]
        by_seed: list[float] = []
        for seed in sorted(alone.keys() & joint.keys() & base.worst_by_seed.keys()):
            marks = [
                (each.point.by_seed(UTILITY)[seed], each.worst_by_seed[seed])
                for each in members
                if seed in each.worst_by_seed and seed in each.point.by_seed(UTILITY)
            ]
            if len(marks) == len(members) and joint[seed] > alone[seed] and base.worst_by_seed[seed] > 0:
                by_seed.append(hypervolume(marks, (alone[seed], base.worst_by_seed[seed]), (joint[seed], 0.0)))
        estimate = over_seeds(by_seed)
        if estimate is not None:
            found[family] = estimate.clipped(0.0, 1.0)
    return found
