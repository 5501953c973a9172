"""What `vfl deploy init` draws: secrets that nobody can compute from what it writes for others."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.deploy import open_party
from parties.spec import PartySpec
from vfl.seeds import Seeds

PARTIES = ("publisher", "advertiser", "referee")


def deployed(folder: Path, *options: str) -> list[PartySpec]:
    """Return what each party of a new deployment was told."""
    assert main(["deploy", "init", "--set", "data=breast_cancer", "--out", str(folder), *options]) == 0
    return [open_party(folder / "parties" / party) for party in PARTIES]


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> list[list[PartySpec]]:
    return [deployed(tmp_path_factory.mktemp("d") / "run") for _ in range(2)]


def test_no_party_of_a_deployment_has_streams_that_follow_from_the_configuration_or_from_another_party(
    deployments: list[list[PartySpec]],
) -> None:
    known = {Seeds(0).scope("party", party) for party in PARTIES} | {Seeds(0).scope("shared"), Seeds(0)}
    own = [spec.seeds for specs in deployments for spec in specs]
    shared = [specs[0].shared for specs in deployments]
    assert not known & {*own, *shared}
    assert not any(first == second for first, second in itertools.combinations([*own, *shared], 2))
    assert {len(seeds.root) for seeds in own if isinstance(seeds.root, bytes)} == {32}


def test_all_parties_of_a_deployment_hold_the_streams_they_must_agree_on(deployments: list[list[PartySpec]]) -> None:
    for specs in deployments:
        assert len({spec.shared for spec in specs}) == 1


def test_a_seeded_deployment_draws_what_the_simulation_draws(tmp_path: Path) -> None:
    specs = deployed(tmp_path / "run", "--seeded")
    assert [spec.seeds for spec in specs] == [Seeds(0).scope("party", party) for party in PARTIES]
    assert {spec.shared for spec in specs} == {Seeds(0).scope("shared")}


def test_only_its_owner_may_read_what_a_party_was_told(tmp_path: Path) -> None:
    deployed(tmp_path / "run")
    for party in PARTIES:
        folder = tmp_path / "run" / "parties" / party
        assert (folder.stat().st_mode & 0o077, (folder / "party.json").stat().st_mode & 0o077) == (0, 0)


def test_rows_drawn_by_class_follow_from_nothing_that_a_publisher_is_told(tmp_path: Path) -> None:
    """Whoever can draw them anew finds rows of a rare class among those that are drawn out of turn."""
    options = ("--set", "holdout={by: stratified}", "--set", "align={overlap: 0.5, stratified: true}")
    first, second, seeded = (
        deployed(tmp_path / name, *options, *extra)[0].shard.cut
        for name, extra in (("a", ()), ("b", ()), ("c", ("--seeded",)))
    )
    masks = [(cut.test_rows, cut.valid_rows, cut.common_rows) for cut in (first, second, seeded)]
    assert all(len({each[part] for each in masks}) == 3 for part in range(3))


def test_rows_drawn_at_random_stay_those_of_the_simulation(tmp_path: Path) -> None:
    first, second = (deployed(tmp_path / name)[0].shard.cut for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("faults.loss=0.1", "faults.loss"),
        ("faults.duplicate=0.1", "faults.duplicate"),
        ("faults.crash=0.1", "faults.crash"),
        ("faults.latency_ms=5", "faults.latency_ms"),
        ("wire.keys=somewhere", "wire.keys"),
        ("attack=[gradient_replacement]", "attack"),
    ],
)
def test_what_only_a_simulation_plays_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, key: str
) -> None:
    """A deployment that left it out would train honestly and say nothing."""
    out = tmp_path / "run"
    command = ["deploy", "init", "--set", "data=breast_cancer", "--out", str(out), "--set", option]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert f"{key}: got" in told
    assert len(told.splitlines()) == 1
    assert not out.exists()
