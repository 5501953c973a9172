"""Notebooks run from the first cell to the last and end in a finding; what they import is public."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from experiments import notebook
from vfl.errors import UserError


def test_there_are_six():
    assert len(notebook.names()) == 6


@pytest.mark.parametrize("name", notebook.names())
def test_it_uses_the_public_interface_and_ends_in_a_finding(name: str):
    text = (notebook.SOURCES / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    hidden = [
        each for each in [*imported, *names, *attributes] if any(part.startswith("_") for part in str(each).split("."))
    ]
    assert hidden == []
    last = text.rpartition("# ## Finding")[2]
    assert "Act on it" in last


def test_an_unknown_notebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match="got 'nothing', allowed auditing_epsilon"):
        notebook.build("nothing", tmp_path)
    assert notebook.main(["nothing", "--out", str(tmp_path)]) == 2
    assert "got 'nothing'" in capsys.readouterr().err


@pytest.mark.notebook
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", notebook.names())
def test_it_runs_and_says_what_to_do(name: str, tmp_path: Path):
    import nbformat

    built = nbformat.read(notebook.build(name, tmp_path), as_version=4)
    said = "".join(
        "".join(output.get("text", "")) for cell in built.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "Act on it" in said
    assert "nan" not in said
    outputs = [output for cell in built.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
