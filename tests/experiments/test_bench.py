"""The benchmark command reports what it measured; how fast that is, no test asserts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.bench import codecs
from experiments.bench.__main__ import main
from experiments.bench.figures import Figure
from experiments.bench.page import update
from experiments.bench.scale import added, exponent
from vfl.errors import DataError
from vfl.registry import names


@pytest.mark.parametrize("backend", ["local", "split+messages"])
def test_a_figure_is_reported_beside_its_reference(capsys: pytest.CaptureFixture[str], backend: str) -> None:
    main(
        [
            "throughput",
            "--backend",
            backend,
            "--workload",
            "W0",
            "--batch",
            "4096",
            "--repeats",
            "1",
            "--seconds",
            "0.1",
            "--json",
        ]
    )
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    assert figure["name"] == f"throughput/{backend}/W0/4096"
    assert figure["value"] > 0
    assert figure["reference"] > 0
    assert figure["ratio"] == pytest.approx(figure["value"] / figure["reference"], rel=0.5)


def test_one_more_costs_what_a_line_through_the_points_rises_by() -> None:
    assert added((2, 3, 5, 16), (9.0, 11.5, 16.5, 44.0)) == pytest.approx(2.5)


def test_codecs_are_compared_seed_by_seed_with_raw() -> None:
    """Means over the seeds with their ends, and a seed counts where its interval leaves 0 out."""

    def row(sent: int, auc: float, value: float, ci: tuple[float, float] | None) -> dict[str, object]:
        return {"bytes": sent, "auc": auc, "gain": {"auc": {"value": value, "ci": ci}}}

    plain = [{"bytes": 400, "auc": 0.7}, {"bytes": 600, "auc": 0.8}]
    small = [row(100, 0.69, -0.01, (-0.02, -0.005)), row(150, 0.83, 0.03, (-0.01, 0.04))]
    lines = codecs.table([codecs.Trained("raw", plain), codecs.Trained("int8", small)])
    assert lines[2] == "| raw | 1.000 | 0.7500 [0.7000, 0.8000] | | |"
    assert lines[3] == "| int8 | 0.250 | 0.7600 [0.6900, 0.8300] | +0.0100 [-0.0100, +0.0300] | 1 of 2 |"


def written(folder: Path, name: str, **ratios: tuple[float, float, float]) -> str:
    figures = [
        {"name": key, "value": 1, "unit": "s", "reference": 1, "ratio": ratio, "repeats": 5, "spread": [least, most]}
        for key, (least, ratio, most) in ratios.items()
    ]
    path = folder / name
    path.write_text(json.dumps({"machine": {}, "figures": figures}))
    return str(path)


def test_compare_flags_only_what_left_its_scatter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path, "old", noisy=(0.5, 0.8, 1.0), steady=(0.79, 0.8, 0.81), gone=(1, 1, 1), up=(0.5, 0.5, 0.5))
    new = written(tmp_path, "new", noisy=(0.5, 0.6, 0.9), steady=(0.6, 0.7, 0.75), up=(0.9, 0.9, 0.9), added=(1, 1, 1))
    with pytest.raises(SystemExit) as ended:
        main(["compare", old, new, "--json"])
    found = {each["name"]: each["verdict"] for each in json.loads(capsys.readouterr().out)["changes"]}
    assert found == {"noisy": "same", "steady": "slower", "gone": "gone", "up": "faster", "added": "new"}
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        main(["compare", old, old])
    assert ended.value.code == 0


def test_compare_refuses_what_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    with pytest.raises(DataError, match="no benchmark report"):
        main(["compare", str(tmp_path / "x"), str(tmp_path / "x")])


def test_an_exponent_is_the_power_of_a_power_law() -> None:
    assert exponent([1, 2, 8], [3, 6 * 2**0.5, 24 * 8**0.5]) == pytest.approx(1.5)


def test_figures_replace_their_rows_on_a_page_and_leave_the_others(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    head = "| figure | samples/s | plain loop | ratio [least, greatest] | target |\n| --- | ---: | ---: | --- | --- |\n"
    kept = "| throughput/ray/W0/256 | 3 | 4 | 0.7 | |\n"
    path.write_text(f"Text\n\nMachine: old\n\n{head}{kept}| throughput/local/W0/256 | 1 | 2 | 0.5 | |\n\nMore\n")
    low = Figure("throughput/local/W0/256", 1234.5, "samples/s", 2469.0, 0.5, 5, (0.4, 0.6))
    new = Figure("throughput/local/W/256", 10.0, "samples/s", 10.0, 1.0, 5, (0.9, 1.1))
    update(path, [low, new], {"cpu": "C", "cores": 2, "python": "3", "torch": "2"})
    text = path.read_text()
    assert f"{head}{kept}| throughput/local/W0/256 | 1,234 | 2,469 | 0.500 [0.40, 0.60] | 0.85: **not met** |\n" in text
    assert "| throughput/local/W/256 | 10 | 10 | 1.000 [0.90, 1.10] |  |\n\nMore\n" in text
    assert "\n\nMachine: C, 2 cores" in text
    (tmp_path / "other.md").write_text("nothing\n")
    with pytest.raises(DataError, match="got 0 tables"):
        update(tmp_path / "other.md", [low], {"cpu": "C", "cores": 2, "python": "3", "torch": "2"})


def test_the_page_of_overheads_has_a_line_for_every_defense() -> None:
    page = Path(__file__).parents[2] / "docs" / "results" / "defense_overhead.md"
    told = {line.split()[1].split("/")[0] for line in page.read_text(encoding="utf-8").splitlines() if "/" in line[:60]}
    assert set(names("defense")) <= told
