"""The answer where settings were swept, and neither defenses nor methods: which is best in utility, and how sure."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.reporting.compared import Compared
from experiments.reporting.grades import leakage
from experiments.reporting.points import Study
from experiments.reporting.verdict import Verdict, ranked
from experiments.reporting.words import share

OTHER_ROWS = ("data", "holdout")
"""Keys that change which rows are tested: AUCs of two such settings are no answers to one question."""


def comparable(study: Study) -> bool:
    """Return whether a study is of several settings that are tested on the same rows, seed by seed."""
    keys = {key for point in study.points for key in point.where}
    told = study.lever == "setting" and len(study.points) > 1
    return told and not any(key.partition(".")[0] in OTHER_ROWS for key in keys)


def of_settings(points: Sequence[Compared], tolerance: float) -> Verdict:
    """Return which setting has the highest AUC, how sure that is, and which leaks least."""
    return ranked(points, tolerance, _name, _least(points))


def _name(each: Compared) -> str:
    return each.point.scene or each.point.label


def _least(points: Sequence[Compared]) -> tuple[str, ...]:
    attacked = [each for each in points if each.worst is not None]
    if not attacked:
        return ()
    least, most = min(attacked, key=leakage), max(attacked, key=leakage)
    return (
        f"The worst leak runs from {share(leakage(least))} ({_name(least)}) to {share(leakage(most))} ({_name(most)}).",
    )
