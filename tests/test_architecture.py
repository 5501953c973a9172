"""The rules of the house, read from the source: who may import whom, how large things may grow, who draws at random.

Each rule is a function from sources to complaints, and each is shown to complain about a small offender below.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("vfl", "parties", "experiments")
FORBIDDEN = {"vfl": ("parties", "experiments"), "parties": ("experiments",), "experiments": ()}
ONLY_HERE = {
    "ray": ("parties/ray.py", "parties/ray_*.py", "experiments/sweep.py", "experiments/bench/*.py"),
    "yaml": ("experiments/config.py",),
}
FLOWER_PUBLIC = ("flwr.app", "flwr.serverapp", "flwr.clientapp")
FLOWER_INTERNALS = ("vfl/compat_flwr.py",)
RANDOM_HERE = ("vfl/seeds.py",)
RANDOM_CALLS = ("Generator", "manual_seed", "seed", "default_rng", "RandomState", "SeedSequence")

FAMILIES = ("data", "align", "impute", "models", "methods", "defenses", "attacks", "metrics")
CORE = {"vfl.types", "vfl.errors", "vfl.seeds"}
"""What a member of any family may import, besides its own family."""
ALSO = {
    "align": {"vfl.exchange", "vfl.crypto"},
    "methods": {"vfl.backward", "vfl.exchange", "vfl.losses", "vfl.models", "vfl.impute", "vfl.evidence", "vfl.crypto"},
    "defenses": {"vfl.privacy"},
    "attacks": {"vfl.transcript"},
    "metrics": {"vfl.attacks"},
}
"""What members of one family may import besides: modules of the core, or a family's protocols, never its members."""
WHOLE = {"vfl.privacy", "vfl.crypto"}
"""Packages that are no family: all of their modules may be imported where the package may."""
NO_MEMBERS = ("vfl/*/__init__.py", "vfl/data/shard.py")
"""Files in a family's folder that are not members: its protocols, and what opens a member for a party."""

MAX_FILE, P95_FILE = 500, 350
MAX_FUNCTION, P95_FUNCTION = 80, 45
MAX_PARAMETERS, MAX_BRANCHES = 6, 10
WINDOW, MAX_DUPLICATED = 8, 0.04
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, FUNCTIONS)]

    @property
    def package(self) -> str:
        return self.path.split("/")[0]

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def within(self, patterns: Sequence[str]) -> bool:
        return any(fnmatch(self.path, pattern) for pattern in patterns)


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    kept = [path for path in found if "notebooks" not in path.parts]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in kept]


def imports(source: Source) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield line, module and imported names; relative imports are made absolute."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = source.path.split("/")[: -node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield node.lineno, module, tuple(alias.name for alias in node.names)


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def packages_point_down(sources: Sequence[Source]) -> list[str]:
    return [
        f"{source.path}:{line} imports {module}"
        for source in sources
        for line, module, _ in imports(source)
        if any(is_below(module, package) for package in FORBIDDEN[source.package])
    ]


def libraries_stay_in_their_place(sources: Sequence[Source]) -> list[str]:
    return [
        f"{source.path}:{line} imports {module}"
        for source in sources
        for line, module, _ in imports(source)
        for library, places in ONLY_HERE.items()
        if is_below(module, library) and not source.within(places)
    ]


def flower_internals_stay_in_one_file(sources: Sequence[Source]) -> list[str]:
    found = []
    for source in sources:
        for line, module, names in imports(source):
            wanted = [f"flwr.{name}" for name in names] if module == "flwr" and names else [module]
            internal = [each for each in wanted if is_below(each, "flwr") and not is_public(each)]
            if internal and not source.within(FLOWER_INTERNALS):
                found.append(f"{source.path}:{line} imports {', '.join(internal)}")
    return found


def is_public(module: str) -> bool:
    return any(is_below(module, public) for public in FLOWER_PUBLIC)


def members_know_no_other_family(sources: Sequence[Source]) -> list[str]:
    found = []
    for source in sources:
        parts = source.path.removesuffix(".py").split("/")
        if len(parts) < 3 or parts[0] != "vfl" or parts[1] not in FAMILIES or source.within(NO_MEMBERS):
            continue
        for line, module, names in imports(source):
            wanted = [f"vfl.{name}" for name in names] if module == "vfl" else [module]
            strangers = [each for each in wanted if is_below(each, "vfl") and not member_may(parts[1], each, names)]
            if strangers:
                found.append(f"{source.path}:{line} imports {', '.join(strangers)}")
    return found


def member_may(family: str, module: str, names: tuple[str, ...]) -> bool:
    if module in CORE or is_below(module, f"vfl.{family}"):
        return True
    granted = ALSO.get(family, set())
    if any(is_below(module, package) for package in WHOLE & granted):
        return True
    modules = [name for name in names if (ROOT / module.replace(".", "/") / f"{name}.py").exists()]
    return module in granted and not modules


def files_are_short(sources: Sequence[Source]) -> list[str]:
    return over_budget([(source.path, source.lines) for source in sources], MAX_FILE, P95_FILE)


def functions_are_short(sources: Sequence[Source]) -> list[str]:
    sizes = [
        (f"{source.path}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for source in sources
        for node in source.functions
    ]
    return over_budget(sizes, MAX_FUNCTION, P95_FUNCTION)


def over_budget(sizes: Sequence[tuple[str, int]], largest: int, p95: int) -> list[str]:
    found = [f"{name} has {size} lines, allowed {largest}" for name, size in sizes if size > largest]
    ranked = sorted(size for _, size in sizes)
    if ranked and ranked[math.ceil(0.95 * len(ranked)) - 1] > p95:
        longest = sorted(sizes, key=lambda pair: -pair[1])[: len(sizes) // 20 + 1]
        found.append(f"the 95th percentile is above {p95} lines; longest: {longest}")
    return found


def parameters_are_few(sources: Sequence[Source]) -> list[str]:
    """The functions of commands are exempt: their parameters are their options."""
    return [
        f"{source.path}:{node.lineno} {node.name} has {count} parameters"
        for source in sources
        for node in source.functions
        if (count := len(parameters(node))) > MAX_PARAMETERS and not is_command(node)
    ]


def parameters(node: Function) -> list[ast.arg]:
    arguments = node.args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    found += [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [each for place, each in enumerate(found) if not (place == 0 and each.arg in ("self", "cls"))]


def is_command(node: Function) -> bool:
    calls = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
    return any(isinstance(each, ast.Attribute) and each.attr == "command" for each in calls)


def branches_are_few(sources: Sequence[Source]) -> list[str]:
    return [
        f"{source.path}:{node.lineno} {node.name} has {count} branches"
        for source in sources
        for node in source.functions
        if (count := sum(isinstance(each, BRANCHES) for each in own_nodes(node))) > MAX_BRANCHES
    ]


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is inside a function but not inside a function in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.Lambda)):
            yield child
            yield from own_nodes(child)


def little_is_written_twice(sources: Sequence[Source]) -> list[str]:
    windows: list[tuple[tuple[str, ...], str]] = []
    for source in sources:
        lines = code_lines(source)
        windows += [
            (tuple(text for _, text in lines[start : start + WINDOW]), f"{source.path}:{lines[start][0]}")
            for start in range(len(lines) - WINDOW + 1)
        ]
    counts = Counter(window for window, _ in windows)
    twice = [place for window, place in windows if counts[window] > 1]
    share = len(twice) / max(len(windows), 1)
    return [f"{share:.1%} of {WINDOW}-line windows stand twice: {twice[:20]}"] if share > MAX_DUPLICATED else []


def code_lines(source: Source) -> list[tuple[int, str]]:
    """Return numbered lines without blanks, comments, imports and docstrings, white space made alike."""
    skipped: set[int] = set()
    for node in source.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_bare_text(node):
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))  # type: ignore[attr-defined]
    numbered = enumerate(source.text.splitlines(), start=1)
    bare = ((line, re.sub(r"\s+", " ", text.split("  #")[0]).strip()) for line, text in numbered)
    return [(line, text) for line, text in bare if line not in skipped and text and not text.startswith("#")]


def is_bare_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def public_names_are_documented(sources: Sequence[Source]) -> list[str]:
    found = [f"{source.path} has no docstring" for source in sources if ast.get_docstring(source.tree) is None]
    return found + [
        f"{source.path}:{node.lineno} {node.name} has no docstring"
        for source in sources
        for node in public_names(source.tree)
        if ast.get_docstring(node) is None
    ]


def public_names_are_annotated(sources: Sequence[Source]) -> list[str]:
    found = []
    for source in sources:
        for node in public_names(source.tree):
            if isinstance(node, FUNCTIONS):
                bare = [each.arg for each in parameters(node) if each.annotation is None]
                bare += ["return"] if node.returns is None else []
                found += (
                    [f"{source.path}:{node.lineno} {node.name}: no annotation of {', '.join(bare)}"] if bare else []
                )
    return found


def public_names(tree: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Yield public classes and functions, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_names(node)


def nothing_is_printed(sources: Sequence[Source]) -> list[str]:
    return [
        f"{source.path}:{node.lineno} prints"
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def random_streams_come_from_seeds(sources: Sequence[Source]) -> list[str]:
    """Calls of `torch.Generator`, `torch.manual_seed`, `np.random...` and `random...`, however they were imported."""
    found = []
    for source in sources:
        if source.within(RANDOM_HERE):
            continue
        for node in source.nodes:
            name = called(node)
            from_numpy = "random." in f"{name}." and name.split(".")[0] in ("np", "numpy", "random")
            if name and (name.split(".")[-1] in RANDOM_CALLS or from_numpy):
                found.append(f"{source.path}:{node.lineno} calls {name}")  # type: ignore[attr-defined]
    return found


def called(node: ast.AST) -> str:
    """Return the dotted name that a call calls, nothing for another node or a call of something without a name."""
    if not isinstance(node, ast.Call):
        return ""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(target.id if isinstance(target, ast.Name) else "")
    return ".".join(reversed(parts)).lstrip(".")


Rule = Callable[[Sequence[Source]], list[str]]
LONG_BODY = "\n".join(f"    x{line} = {line}" for line in range(90))
OFFENDERS: list[tuple[Rule, str, str]] = [
    (packages_point_down, "vfl/a.py", "import parties.local"),
    (packages_point_down, "vfl/a.py", "def f():\n    from experiments import run"),
    (packages_point_down, "parties/a.py", "from experiments.run import simulate"),
    (libraries_stay_in_their_place, "vfl/a.py", "import ray"),
    (libraries_stay_in_their_place, "experiments/run.py", "from ray.util import placement_group"),
    (libraries_stay_in_their_place, "experiments/run.py", "def f():\n    import yaml"),
    (flower_internals_stay_in_one_file, "vfl/wire.py", "from flwr.common import Message"),
    (flower_internals_stay_in_one_file, "vfl/wire.py", "from flwr import supercore"),
    (flower_internals_stay_in_one_file, "parties/a.py", "import flwr"),
    (members_know_no_other_family, "vfl/defenses/a.py", "from vfl.attacks.norm import Norm"),
    (members_know_no_other_family, "vfl/attacks/a.py", "from vfl.grid import PartyGrid"),
    (members_know_no_other_family, "vfl/attacks/a.py", "from vfl import store"),
    (members_know_no_other_family, "vfl/attacks/a.py", "from ..defenses import State"),
    (members_know_no_other_family, "vfl/attacks/a.py", "from vfl.privacy.sumkl import least_sum_kl"),
    (members_know_no_other_family, "vfl/methods/a.py", "from vfl.models import mlp"),
    (members_know_no_other_family, "vfl/methods/a.py", "from vfl.models.mlp import Mlp"),
    (files_are_short, "vfl/a.py", "x = 1\n" * (MAX_FILE + 1)),
    (files_are_short, "vfl/a.py", "x = 1\n" * (P95_FILE + 1)),
    (functions_are_short, "vfl/a.py", f"def f():\n{LONG_BODY}"),
    (functions_are_short, "vfl/a.py", "def f():\n" + "\n".join(LONG_BODY.split("\n")[:P95_FUNCTION])),
    (parameters_are_few, "vfl/a.py", "def f(a, b, c, d, *, e, f, g): ..."),
    (parameters_are_few, "vfl/a.py", "class A:\n    def f(self, a, b, c, d, e, f, g): ..."),
    (branches_are_few, "vfl/a.py", "def f(x):\n" + "    if x:\n        x += 1\n" * 11),
    (little_is_written_twice, "vfl/a.py", ("\n".join(f"x{line} = {line}" for line in range(8)) + "\n") * 2),
    (public_names_are_documented, "vfl/a.py", "x = 1"),
    (public_names_are_documented, "vfl/a.py", '"""A."""\nclass A:\n    """A."""\n    def f(self): ...'),
    (public_names_are_annotated, "vfl/a.py", "def f(a: int): ..."),
    (public_names_are_annotated, "vfl/a.py", "class A:\n    def f(self, *a) -> None: ..."),
    (nothing_is_printed, "experiments/a.py", "print(1)"),
    (random_streams_come_from_seeds, "vfl/a.py", "import torch\ng = torch.Generator()"),
    (random_streams_come_from_seeds, "vfl/a.py", "import torch\ntorch.manual_seed(0)"),
    (random_streams_come_from_seeds, "vfl/a.py", "import torch\ng = torch.Generator().manual_seed(0)"),
    (random_streams_come_from_seeds, "parties/a.py", "import numpy as np\nnp.random.normal(3)"),
    (random_streams_come_from_seeds, "parties/a.py", "from numpy.random import default_rng\nr = default_rng(3)"),
    (random_streams_come_from_seeds, "parties/a.py", "import random\nrandom.shuffle([1])"),
]
INNOCENT = '''"""A module that keeps every rule."""

import numpy as np
import torch
from flwr.app import Message
from vfl.defenses import SendContext, State
from vfl.privacy.sumkl import least_sum_kl
from vfl.types import Kind


class Kept:
    """A class."""

    def apply(self, body: torch.Tensor, generator: torch.Generator, rng: np.random.Generator) -> torch.Tensor:
        """Return the same."""
        return body + torch.randn(3, generator=generator) + rng.normal()

    def _private(self, a, b):
        return a if a else b


@app.command()
def command(a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> None:
    """Take options."""
'''
RULES = tuple(dict.fromkeys(rule for rule, _, _ in OFFENDERS))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule, sources):
    assert rule(sources) == []


@pytest.mark.parametrize(("rule", "path", "text"), OFFENDERS, ids=lambda each: getattr(each, "__name__", ""))
def test_the_rule_finds_an_offender(rule, path, text):
    assert rule([Source(path, text)])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_lets_an_innocent_pass(rule):
    assert rule([Source("vfl/defenses/kept.py", INNOCENT)]) == []


def test_every_rule_reads_the_three_packages(sources):
    assert {source.package for source in sources} == set(PACKAGES)
    assert len(sources) > 30
