"""Members by name: found without an edit elsewhere, built from plain options, refused with a line that helps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vfl
from vfl.attacks.direction import Direction
from vfl.defenses.marvell import Marvell
from vfl.errors import ConfigError, RegistryError
from vfl.registry import FAMILIES, build, class_name, entries, find, names

PACKAGE = Path(vfl.__file__).parent


@pytest.mark.parametrize(("module", "wanted"), [("norm", "Norm"), ("max_norm", "MaxNorm"), ("leak_auc", "LeakAuc")])
def test_class_name(module, wanted):
    assert class_name(module) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_every_listed_name_can_be_found_and_is_documented(family):
    for entry in entries(family):
        member = find(family, entry.name)
        assert member.__name__ == class_name(entry.name)
        assert entry.summary == (member.__doc__ or "").split("\n")[0]
        assert entry.summary.endswith((".", ":"))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_module_with_its_own_class_is_left_out(family):
    """A slow twin of the listing: a module is a member if its text defines the class that its name asks for."""
    folder = PACKAGE / FAMILIES[family].removeprefix("vfl.")
    defined = {
        path.stem
        for path in folder.glob("*.py")
        if re.search(rf"^class {class_name(path.stem)}\b", path.read_text(), re.MULTILINE)
    }
    assert names(family) == sorted(defined)


def test_references_are_read_from_the_docstring():
    found = {entry.name: entry.reference for entry in entries("attack")}
    assert "Label Leakage and Protection" in found["norm"]
    assert "arxiv.org/abs/2102.08504" in found["norm"]
    assert "\n" not in found["norm"]


def test_listing_imports_no_member():
    code = (
        "import sys; from vfl.registry import FAMILIES, names; found = [names(f) for f in FAMILIES];"
        f"print(sorted(m for m in sys.modules if m.startswith({tuple(f'{name}.' for name in FAMILIES.values())}))"
        ", any(found), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert out.stdout.strip() == "[] True False"


def test_build_by_name_and_by_spec():
    assert build("defense", "marvell") == Marvell()
    assert build("defense", {"name": "marvell", "s": 0.5, "uv": "same"}) == Marvell(s=0.5, uv="same")
    spec = {"name": "direction", "hints": 4}
    assert build("attack", spec) == Direction(hints=4)
    assert spec == {"name": "direction", "hints": 4}


@pytest.mark.parametrize(
    ("family", "spec", "kind", "says"),
    [
        ("defense", "maxnorm", RegistryError, "no defense named 'maxnorm'; did you mean 'max_norm'? (known: "),
        ("defense", "zzzz", RegistryError, "no defense named 'zzzz'; (known: "),
        ("defense", "__init__", RegistryError, "no defense named '__init__'"),
        ("attack", "max_norm", RegistryError, "no attack named 'max_norm'"),
        ("defence", "max_norm", RegistryError, "no family named 'defence'; did you mean 'defense'?"),
        ("defense", {"s": 1}, ConfigError, "name: got None"),
        ("impute", {}, ConfigError, "name: got None"),
        ("defense", {"name": 3}, ConfigError, "name: got 3"),
        ("defense", {"name": "marvell", "S": 1}, ConfigError, "S: no option of defense 'marvell' named 'S'"),
        ("attack", {"name": "direction", "hint": 1}, ConfigError, "did you mean 'hints'? (known: hints, measure)"),
        ("defense", {"name": "max_norm", "s": 1}, ConfigError, "s: defense 'max_norm' takes no options, got 's'"),
        ("defense", {"name": "marvell", "kinds": []}, ConfigError, "kinds: no option of defense 'marvell'"),
        ("attack", {"name": "direction", "hints": "many"}, ConfigError, "hints: got 'many', allowed a valid integer"),
        ("attack", {"name": "direction", "hints": 0}, ConfigError, "hints: got 0, allowed any whole number from 1"),
        ("model", {"name": "mlp", "hidden": [0]}, ConfigError, "allowed 1 or more"),
    ],
)
def test_refusals_help(family, spec, kind, says):
    with pytest.raises(kind) as caught:
        build(family, spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


OUTSIDE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    strength: float = 1.0

class Bare:
    pass

value = Mine()
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    package = tmp_path / "my_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "my_file.py").write_text(OUTSIDE)
    (package / "broken.py").write_text("class Mine(")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_out_of_tree_needs_no_edit(outside):
    made = build("defense", {"name": "my_pkg.my_file:Mine", "strength": 2})
    assert type(made).__name__ == "Mine"
    assert made.strength == 2.0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_pkg.my_file:Other", "has no attribute 'Other'"),
        ("my_pkg.no_file:Mine", "No module named 'my_pkg.no_file'"),
        ("my_pkg.broken:Mine", "was never closed"),
        (":Mine", "Empty module name"),
        ("..my_file:Mine", "relative import"),
        ("my_pkg.my_file:", "has no attribute ''"),
        ("my_pkg.my_file:Bare", "allowed a dataclass"),
        ("my_pkg.my_file:value", "allowed a dataclass"),
        ("os:getcwd", "allowed a dataclass"),
    ],
)
def test_out_of_tree_refusals(outside, name, says):
    with pytest.raises(RegistryError, match=re.escape(says)):
        build("defense", {"name": name})


def test_out_of_tree_options_are_checked_too(outside):
    with pytest.raises(ConfigError, match="did you mean 'strength'"):
        build("defense", {"name": "my_pkg.my_file:Mine", "strenght": 2})
    with pytest.raises(ConfigError, match="strength: got 'x'"):
        build("defense", {"name": "my_pkg.my_file:Mine", "strength": "x"})
