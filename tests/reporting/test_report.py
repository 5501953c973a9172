"""The page as a reader's machine gets it: one file, nothing from outside, every figure and table said in words."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from trials import sweep, trial

from experiments import report, results
from experiments.cli import main
from experiments.config import parse, resolved
from experiments.reporting import page
from experiments.reporting.points import study
from experiments.reporting.reproduce import configuration
from experiments.schema import Config
from vfl.errors import UserError

TIGHT = [0.0021, 0.0019, 0.002]
NAME = "a <b>sweep</b> & more"
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and text; complains where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def rows() -> list[results.Row]:
    ledger = [
        {
            "party": "advertiser",
            "unit": "label",
            "purpose": "training",
            "epsilon": 2.0,
            "delta": 0.0,
            "accountant": "pure DP",
        }
    ]
    found = [
        row
        for overlap in (0.1, 0.5, 1.0)
        for row in sweep(
            {"max_norm": TIGHT, "marvell": TIGHT}, {"max_norm": 0.7, "marvell": 0.6}, align={"overlap": overlap}
        )
    ]
    private = [trial(seed, [{"name": "randomized_response"}], 0.88, {"norm": 0.6}, ledger=ledger) for seed in range(3)]
    config = resolved(Config.model_validate({"seed": 9}))
    return [*found, *private, results.failed_row("f1", config, "PartyError: <it> broke")]


@pytest.fixture(scope="module")
def html(rows: list[results.Row]) -> str:
    return page.html(page.of_rows(rows, NAME))


@pytest.fixture(scope="module")
def parsed(html: str) -> Page:
    return Page(html)


def test_nothing_comes_from_outside(html: str, parsed: Page):
    for tag, attrs in parsed.elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            value = attrs.get(name) or "#"
            assert value.startswith("#") or value == "data:,", (tag, name, value)
        assert tag not in ("iframe", "object", "embed", "base", "img")
    assert not re.search(r"@import|url\((?!#)|https?://[^\s<]+\.(?:js|css|woff)", html)
    assert "fetch(" not in html
    assert "XMLHttpRequest" not in html


def test_tags_match_and_ids_are_unique(parsed: Page):
    assert parsed.open == []
    counts = Counter(attrs["id"] for _, attrs in parsed.elements if attrs.get("id"))
    assert [name for name, count in counts.items() if count > 1] == []
    links = {attrs["href"][1:] for _, attrs in parsed.elements if (attrs.get("href") or "").startswith("#")}
    assert links - counts.keys() == set()


def test_every_figure_is_said_in_words(parsed: Page):
    drawn = parsed.all("svg")
    assert len(drawn) >= 4
    assert all(len(attrs.get("aria-label") or "") > 40 for attrs in drawn)
    tips = [attrs for _, attrs in parsed.elements if attrs.get("class") == "tip"]
    assert len(tips) > 20
    assert all(attrs["aria-label"] and attrs["tabindex"] == "0" for attrs in tips)


def test_every_table_has_a_caption_and_headings(html: str, parsed: Page):
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert len(tables) >= 6
    for table in tables:
        assert "<caption>" in table
        assert table.count('scope="row"') == len(re.findall(r"<tr>", table)) - 1
        assert 'scope="col"' in table
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))


def test_headings_descend_by_one_and_the_language_is_set(parsed: Page):
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert parsed.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(parsed.all("meta"))


def test_words_of_rows_are_escaped(html: str):
    assert NAME not in html
    assert "a &lt;b&gt;sweep&lt;/b&gt; &amp; more" in html
    assert "&lt;it&gt; broke" in html


def test_a_reader_finds_the_three_answers(parsed: Page):
    words = " ".join(" ".join(parsed.words).split())
    for answer in ("Use marvell", "What still leaks", "Why, and how sure", "likely", "guessing 0.500"):
        assert answer in words
    for part in (
        "Privacy ledger",
        "Threat model",
        "embeddings of rows",
        "AUC over overlap",
        "pure DP",
        "Trials that failed",
    ):
        assert part in words


READINGS = ("leaks", "probably leaks", "not told apart from guessing", "no figure")


def colours(theme: str) -> dict[str, str]:
    css = (files("experiments.reporting") / "files" / "report.css").read_text()
    light, dark = re.findall(r"^:root(?:\[data-theme=\"dark\"\])? \{(.*?)\}", css, re.DOTALL | re.MULTILINE)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if theme == "light" else dark))


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[place : place + 2], 16) / 255 for place in (1, 3, 5))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_themes(theme: str):
    """WCAG 2.2 AA: 4.5 for text, 3 for marks."""
    named = {name: rgb(value) for name, value in colours(theme).items()}
    for ink in ("ink", "muted", "accent", "good", "warn", "bad"):
        assert min(contrast(named[ink], named[ground]) for ground in ("paper", "card")) >= 4.5, ink
    for tone in ("good", "warn", "bad"):
        assert contrast(named[tone], named[f"{tone}-bg"]) >= 4.5
    hottest = tuple(0.72 * hot + 0.28 * card for hot, card in zip(named["heat-bg"], named["card"], strict=True))
    assert contrast(named["ink"], hottest) >= 4.5
    assert contrast(named["paper"], named["accent"]) >= 4.5
    for place in range(8):
        assert contrast(named[f"s{place}"], named["card"]) >= 3


def test_an_adversary_that_tampers_is_not_said_to_follow_the_protocol():
    told = page.threat(page.of_rows([trial(0, [], 0.9, {"norm": 0.8}) | {"leakage.norm.active": True}], "one"))
    assert "tampers with what it sends or trains (norm)" in told[0]
    assert "follows the protocol" not in told[0]
    assert "parties that break the protocol in other ways than these attacks" in told[-1]
    assert "follows the protocol" in page.threat(page.of_rows([trial(0, [], 0.9, {"norm": 0.8})], "one"))[0]


def test_a_configuration_of_the_page_is_that_of_the_trial():
    asked = {
        "seed": 3,
        "backend": "local",
        "data": {"name": "digits"},
        "method": {"name": "risa", "rounds": 2, "publisher_weight": 2.0},
        "defense": [{"name": "marvell", "s": 4}],
        "align": {"overlap": 0.3, "leftover": {"publisher": 0.25, "advertiser": 0.75}},
        "split": {"name": "importance", "parties": 3},
        "attack": [{"name": "direction", "hints": 1, "as": "near"}],
        "train": {"epochs": 2, "lr": 0.01},
        "references": [],
    }
    config = Config.model_validate(asked)
    row = results.failed_row("a", resolved(config), "")
    text = configuration(row)
    assert resolved(parse(yaml.safe_load(text))) == resolved(config)
    assert "embedding_dim" not in text
    assert resolved(parse(yaml.safe_load(configuration(trial(0, [], 0.9, {})))))["seed"] == 0


def test_every_format_is_written_beside_the_rows(rows: list[results.Row], tmp_path: Path):
    for row in rows:
        results.write(tmp_path, row)
    written = {wanted: report.write(tmp_path, None, wanted) for wanted in ("md", "csv", "png")}
    assert [path.name for path in written.values()] == ["report.md", "report.csv", "report.png"]
    text = written["md"].read_text()
    assert "**Use marvell" in text
    assert "```yaml" in text
    assert written["png"].read_bytes().startswith(b"\x89PNG")
    lines = list(csv.DictReader(io.StringIO(written["csv"].read_text())))
    assert len(lines) == len(study(rows).points)
    chosen = next(line for line in lines if line["label"] == "marvell" and line["setting"] == "overlap 1")
    assert float(chosen["loss"]) == pytest.approx(0.002)
    assert float(chosen["norm"]) == pytest.approx(0.601)


def test_rows_keep_the_types_they_were_written_in(tmp_path: Path):
    """A whole number beside a missing one must not come back as a fraction: a member would refuse it."""
    for name, method in (("a", {"name": "local", "min_steps": 480}), ("b", "vanilla")):
        config = resolved(Config.model_validate({"method": method}))
        results.write(tmp_path, results.failed_row(name, config, ""))
    first, second = results.rows(tmp_path)
    assert json.dumps(first["config.method.min_steps"]) == "480"
    assert "config.method.min_steps" not in second


def test_a_sweep_without_a_finished_trial_is_refused(tmp_path: Path):
    results.write(tmp_path, results.failed_row("a", resolved(Config()), "PartyError: it broke"))
    with pytest.raises(UserError, match="got 1 failed trials and none that finished"):
        report.write(tmp_path, None, "html")
    with pytest.raises(UserError, match="got 'pdf', allowed html, md, csv, png"):
        report.write(tmp_path, None, "pdf")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["file"], "file: no such directory"),
        (["empty"], "empty: got no finished run in it"),
        (["sweep", "--format", "pdf"], "--format: got 'pdf', allowed html, md, csv, png"),
        (["sweep", "--format", ""], "--format: got '', allowed html, md, csv, png"),
        (["sweep", "--out", "empty"], "empty: cannot be written"),
        (["sweep", "--out", "file/report.html"], "report.html: cannot be written"),
        (["sweep", "--wide"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    results.write(Path("sweep"), trial(0, [], 0.9, {"norm": 0.8}))
    Path("empty").mkdir()
    Path("file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("file").read_text() == "mine"


def test_a_report_needs_no_torch():
    """It reads rows: without torch it starts in a fraction of the time."""
    told = "import sys, experiments.report; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_shipped_files_are_packaged():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert '"experiments.reporting" = ["files/*"]' in pyproject.read_text()


def test_methods_without_vanilla_have_no_baseline():
    """Their AUCs differ, so they do not stand on one line of no loss."""
    methods = {"risa": 0.9, "local": 0.8}
    rows = [
        trial(seed, [], auc + 0.01 * seed, {"norm": 0.7}, method=name)
        for name, auc in methods.items()
        for seed in range(3)
    ]
    made = page.of_rows(rows, NAME)
    (front,) = page.figures.fronts(made.scenes)
    assert front.figure.axes[0].get_xlabel() == "AUC less than the best point's (points)"
    assert not any(each.baseline for each in made.found)


def test_the_dark_theme_needs_no_script():
    """What the script sets and what the browser asks for are the same colours."""
    css = (files("experiments.reporting") / "files" / "report.css").read_text()
    pattern = r"prefers-color-scheme: dark\) \{\s*:root:not\(\[data-theme\]\) \{(.*?)\}"
    (asked,) = re.findall(pattern, css, re.DOTALL)
    assert dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", asked)) == colours("dark")


def test_readings_and_help_are_words_in_the_page(html: str, parsed: Page):
    assert not any(attrs.get("title") for attrs in parsed.all("button"))
    assert "VFLAIR&#39;s defense score of advantages" in html
    heat = html[html.index('id="t-heat-0"') :].split("</table>")[0]
    assert all(any(word in cell for word in READINGS) for cell in re.findall(r"<td.*?</td>", heat))
    assert html.index("<fieldset") < html.index("<legend") < html.index('type="radio"')


def test_a_sweep_of_any_other_key_says_which_setting_is_best_and_how_sure():
    gains = {0.01: [0.0] * 5, 0.1: [0.02, 0.021, 0.019, 0.02, 0.022]}
    rows = [
        trial(seed, [], 0.8 + 0.01 * seed + gain, {"norm": 0.5 + lr}, train={"lr": lr})
        for lr, found in gains.items()
        for seed, gain in enumerate(found)
    ]
    (found,) = page.of_rows(rows, NAME).verdicts[page.USUAL]
    assert (found.headline, found.sure) == ("train.lr 0.1 has the highest AUC.", "firm")
    assert "2.04 points more than train.lr 0.01" in " ".join(found.why)
    assert "(train.lr 0.01)" in found.also[-1]
    assert "(train.lr 0.1)" in found.also[-1]


def test_data_sets_are_not_ranked_by_auc():
    rows = [trial(0, [], 0.8, {}, data=name) | {"data.name": name} for name in ("adult", "breast_cancer")]
    assert len(page.of_rows(rows, NAME).verdicts[page.USUAL]) == 2


def test_each_configuration_of_a_point_has_its_own_recipe():
    """Trials that differ in their attack are one point and two configurations."""
    rows = [trial(seed, [], 0.9, {attack: 0.9}) for attack in ("norm", "spectral") for seed in range(2)]
    (point,) = page.of_rows(rows, NAME).points
    first, second = page.recipes(point)
    assert (first.seeds, second.seeds) == ((0, 1), (0, 1))
    assert ("norm" in first.yaml, "spectral" in second.yaml, "spectral" in first.yaml) == (True, True, False)


def test_the_page_names_version_data_and_the_base_rate_of_each_data_set():
    rows = [
        trial(0, [], 0.8, {}, data=name) | {"data.name": name, "data.base_rate": rate, "data.sha256": name * 3}
        for name, rate in (("adult", 0.24), ("breast_cancer", 0.37))
    ]
    told = page.facts(page.of_rows(rows, NAME))
    assert told["base rate"] == "adult: 24\u00a0% positive; breast_cancer: 37\u00a0% positive"
    assert told["made with"] == "vfl-platform 0.1.0, data adult adultadultad, breast_cancer breast_cance"


def test_what_a_figure_leaves_out_is_said():
    scenes = [
        row for lr in range(1, 7) for row in sweep({"max_norm": TIGHT}, {"max_norm": 0.7}, train={"lr": lr / 100})
    ]
    made = page.of_rows(scenes, NAME)
    drawn = page.figures.fronts(made.scenes)
    assert "Not drawn: 2 more settings" in drawn[-1].told
    rows = [
        trial(0, [{"name": "marvell", "s": s}], 0.8, {"norm": 0.7}, align={"overlap": overlap})
        for s in range(1, 10)
        for overlap in (0.1, 1.0)
    ]
    curve = page.figures.over_axes(page.of_rows(rows, NAME).found)[0]
    assert "Not drawn: 1 more line" in curve.told
    assert "bars are 95 % intervals over seeds" not in curve.told
    bars = page.figures.costs(made.found * 2)[0]
    assert "Not drawn: 8 more configurations" in bars.told
    assert page.facts(made)["the partner's data adds"].endswith("; 4 more settings below")
