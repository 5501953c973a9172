"""What README tells a newcomer to write works as it stands there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from vfl.defenses import Defense, SendContext

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `Add a defense`, in a folder of its own."""
    section = README.partition("## Add a defense")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    path = tmp_path_factory.mktemp("recipe") / "clip.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_the_defense_of_the_recipe_clips(recipe: Path):
    spec = spec_from_file_location("clip", recipe)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    defense = module.Clip(clip_l2=0.5)
    assert isinstance(defense, Defense)
    body = torch.tensor([[3.0, 4.0], [0.1, 0.2]])
    ctx = SendContext(step=0, generator=torch.Generator(), labels=None, classes=2, rows=torch.arange(2), by_class=None)
    sent, _ = defense.apply(body, defense.init(), ctx)
    assert sent[0].tolist() == pytest.approx([0.3, 0.4])
    assert sent[1].tolist() == body[1].tolist()


def test_the_recipe_passes_the_checks_of_this_repository(recipe: Path):
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    public = [node for node in ast.walk(ast.parse(recipe.read_text())) if isinstance(node, ast.FunctionDef)]
    assert all(ast.get_docstring(node) for node in public)


def test_files_that_are_named_are_there():
    named = re.findall(r"(?:\]\(|`)((?:docs|configs|vfl|tests|experiments)/[\w./-]*\w)", README)
    missing = {name for name in named if not (ROOT / name).exists()} - {"vfl/defenses/clip.py"}
    assert len(named) > 5
    assert not missing
