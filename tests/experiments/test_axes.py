from __future__ import annotations

from pathlib import Path

import pytest

from experiments.axes import Asked, read_sweep
from experiments.plan import open_world
from experiments.sweep import resolve
from vfl.errors import ConfigError, DataError

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "sweep").glob("*.yaml"))


def settings(tmp_path: Path, text: str) -> list[dict]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return [dict(asked.settings) for asked in read_sweep(path)]


def test_axes_are_crossed_and_keys_of_one_axis_go_together(tmp_path: Path):
    text = "axes:\n- seed: [0, 1]\n- {train.epochs: [1, 2], train.lr: [0.1, 0.2]}\n"
    assert settings(tmp_path, text) == [
        {"seed": seed, "train.epochs": epochs, "train.lr": lr} for seed in (0, 1) for epochs, lr in ((1, 0.1), (2, 0.2))
    ]


def test_a_conditional_axis_is_tried_only_where_it_holds(tmp_path: Path):
    text = (
        "axes:\n- defense: [[], [{name: marvell}], [{name: max_norm}]]\n"
        "- defense.0.s: [1, 4]\n  when: {defense.0.name: marvell}\n"
    )
    assert [each.get("defense.0.s") for each in settings(tmp_path, text)] == [None, 1, 4, None]


def test_a_condition_reads_the_base_and_bare_names(tmp_path: Path):
    text = "base: {method: risa}\naxes:\n- method.rounds: [1, 2]\n  when: {method.name: risa}\n"
    assert [each["method.rounds"] for each in settings(tmp_path, text)] == [1, 2]


def test_what_is_said_twice_is_tried_once(tmp_path: Path):
    assert len(settings(tmp_path, "axes:\n- seed: [3, 3, 4]\n")) == 2


def test_a_sample_is_a_part_of_the_grid_and_the_same_again(tmp_path: Path):
    grid = "axes:\n- seed: [0, 1, 2, 3, 4, 5]\n- train.epochs: [1, 2]\n"
    whole = settings(tmp_path, grid)
    first, again, other = (settings(tmp_path, f"{grid}sample: {{trials: 5, seed: {seed}}}\n") for seed in (1, 1, 2))
    assert len(first) == 5
    assert all(each in whole for each in first)
    assert first == again
    assert first != other


def test_a_trial_is_local_and_keeps_its_marks_alone(tmp_path: Path):
    path = tmp_path / "sweep.yaml"
    path.write_text("base: {train: {epochs: 2}}\n")
    (only,) = read_sweep(path)
    assert (only.config.backend, only.config.record.keep, only.config.train.epochs) == ("local", "marks", 2)


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("axis: []", "axis", "did you mean 'axes'?"),
        ("base: {backend: ray}", "base.backend", "got 'ray', allowed local"),
        ("axes: {seed: [1]}", "axes", "a list of one value or more"),
        ("axes: [seed]", "axes.0", "a mapping of keys to lists of values"),
        ("axes: [{seed: 3}]", "axes.0.seed", "a list of one value or more"),
        ("axes: [{seed: []}]", "axes.0.seed", "a list of one value or more"),
        ("axes: [{seed: [1, 2], train.epochs: [1]}]", "axes.0", "lists of different lengths (seed 2, train.epochs 1)"),
        ("axes: [{when: {seed: 1}}]", "axes.0", "a mapping of keys to lists of values"),
        ("axes: [{seed: [1], when: seed}]", "axes.0", "a mapping of keys to a value each"),
        ("axes: [{sed: [1]}]", "sed", "seed"),
        ("axes: [{train.epochs: [0]}]", "train.epochs", "got 0"),
        ("base: 3", "base", "a mapping of keys of a run"),
        ("base: {train: 3}", "train", "got 3"),
        ("base: {record: [a]}", "record", "got ['a']"),
        ("base: {sed: 3}", "sed", "did you mean 'seed'?"),
        ("axes: []", "axes", "a list of one value or more"),
        ("axes: [{backend: [local, ray]}]", "axes.backend", "got 'ray', allowed local"),
        ("axes: [{seed: [1], when: {data: digits}}]", "axes.0.when", 'no trial meets (data: "digits")'),
        ("axes: [{seed: [1], when: {defense.0.nam: marvell}}]", "axes.0.when", "no trial meets"),
        ("sample: {trials: 0, seed: 0}", "sample.trials", "got 0, allowed 1 to 1"),
        ("sample: {trials: true, seed: 0}", "sample.trials", "got true"),
        ("sample: {trials: 1, seed: -1}", "sample.seed", "got -1, allowed a whole number from 0"),
        ("sample: {trials: 1, seed: 0, size: 3}", "sample", "trials and seed"),
        ("sample: 3", "sample", "trials and seed"),
        ("sample: {trials: 2, seed: 0}", "sample.trials", "got 2, allowed 1 to 1"),
        ("sample: {trials: 1, seed: a}", "sample.seed", "a whole number"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path: Path, text: str, key: str, told: str):
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/sweep.yaml: {key}: ")
    assert told in line


def test_every_mistake_is_told_once(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, "axes:\n- seed: [0, 1]\n- train.epochs: [0, -1]\n")
    assert [str(error).partition("got ")[2][:2].strip(",") for error in caught.value.errors] == ["0", "-1"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_is_read(path: Path):
    assert len(read_sweep(path)) >= 6


def at_hand(asked: Asked) -> bool:
    """Whether the files of a trial's data set are here: all but the embedded and the made ones come from elsewhere."""
    try:
        open_world(asked.config)
    except DataError as error:
        if "no data file" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_passes_every_check_of_a_run(path: Path):
    """Each defense, method and split once, and each data set with each list of attacks: the rest differs in numbers."""
    seen: dict[str, Asked] = {}
    for asked in read_sweep(path):
        config = asked.config
        seen.setdefault(f"{[spec.name for spec in config.defense]} {config.method.name} {config.split}", asked)
        seen.setdefault(f"{config.data.name} {[spec.key for spec in config.attack]} {config.model.top.name}", asked)
    sets: dict[str, bool] = {}
    for asked in seen.values():
        sets.setdefault(asked.config.data.name, at_hand(asked))
    found = [asked for asked in seen.values() if sets[asked.config.data.name]]
    if not found:
        pytest.skip(f"needs the files of {', '.join(sets)}: set VFL_DATA to the folder of data sets")
    assert resolve(found, str(path))
