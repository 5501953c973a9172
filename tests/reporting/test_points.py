from __future__ import annotations

from trials import sweep, trial

from experiments.reporting.points import NO_DEFENSE, spans, study


def test_seeds_of_one_configuration_are_one_point():
    found = study(sweep({"max_norm": [0.001, 0.002]}, {"max_norm": 0.6}))
    assert [(point.label, point.seeds) for point in found.points] == [(NO_DEFENSE, (0, 1)), ("max_norm", (0, 1))]
    assert (found.lever, found.scenes) == ("defense", [""])


def test_attacks_and_grants_do_not_make_another_point():
    """They change what is learned about a model, not the model."""
    rows = [
        trial(0, [], 0.9, {"norm": 0.9}),
        trial(0, [], 0.9, {"direction": 0.95}, threat={"hints": {"labelled_rows": 3}}),
    ]
    (point,) = study(rows).points
    assert len(point.rows) == 2


def test_points_are_compared_within_what_else_was_varied():
    rows = [
        trial(0, defense, 0.9, {"norm": 0.7}, align={"overlap": overlap})
        for overlap in (1.0, 0.2)
        for defense in ([], [{"name": "max_norm"}])
    ]
    found = study(rows)
    assert found.scenes == ["overlap 0.2", "overlap 1"]
    assert [point.label for point in found.within("overlap 0.2")] == [NO_DEFENSE, "max_norm"]
    assert spans(found.points) == ["overlap"]


def test_strengths_are_told_apart_and_ordered_by_number():
    stacks = [[{"name": "marvell", "s": s}] for s in (16, 4.0, 1)] + [[{"name": "clipped_gaussian", "on": "gradient"}]]
    found = study([trial(0, stack, 0.9, {"norm": 0.7}) for stack in stacks])
    assert [point.label for point in found.points] == [
        "clipped_gaussian on=gradient",
        "marvell s=1",
        "marvell s=4",
        "marvell s=16",
    ]
    assert [point.family for point in found.points] == ["clipped_gaussian on=gradient", *["marvell"] * 3]


def test_methods_are_the_lever_where_no_defense_is_varied():
    rows = [trial(0, [], 0.9, {}, method=method) for method in ("vanilla", {"name": "risa", "rounds": 2}, "local")]
    found = study(rows)
    assert found.lever == "method"
    assert [point.label for point in found.points] == ["vanilla", "local", "risa"]
    assert found.baseline("").label == "vanilla"


def test_options_of_a_method_are_told_where_they_alone_differ():
    rows = [trial(0, [], 0.9, {}, method={"name": "risa", "rounds": rounds, "warm_steps": 9}) for rounds in (2, 4)]
    assert [point.label for point in study(rows).points] == ["risa rounds=2", "risa rounds=4"]


def test_a_model_that_was_tampered_with_is_another_one():
    """Its AUC must not stand for that of the same configuration left alone, nor the other way round."""
    sabotage = {"name": "sabotage", "way": "missing"}
    rows = [trial(seed, defense, 0.9, {"norm": 0.9}) for seed in (0, 1) for defense in ([], [{"name": "max_norm"}])]
    rows += [
        trial(seed, [], 0.7, {"sabotage": 0.5}, attack=[sabotage]) | {"leakage.sabotage.active": True}
        for seed in (0, 1)
    ]
    found = study(rows)
    assert [(point.label, point.scene) for point in found.points] == [
        (NO_DEFENSE, ""),
        ("max_norm", ""),
        (NO_DEFENSE, "active attack sabotage way=missing"),
    ]
    assert found.points[0].estimate("utility.test.auc").value == 0.9
    assert found.lever == "defense"
