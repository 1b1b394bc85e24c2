"""Imports fall from top to bottom, and each kind of knowledge has one place."""

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import checkpoint

PACKAGE = Path(checkpoint.__file__).parent

ROOMS = [
    "cli",
    "sampling",
    "converting",
    "opening",
    "checking",
    "interop",
    "runs",
    "chains",
    "reading",
    "recording",
    "hierarchy",
    "adapters",
    "_pymc",
    "stores",
    "format",
    "errors",
    "printable",
]
"""From top to bottom. The package itself, whose names are lazy, is above all."""

CHANGES_FILES = (
    r"fsync\(|os\.(p?write|replace|rename|link|unlink|remove|mkdir|makedirs|rmdir|f?truncate)\("
)
"""The bench of crashes and power losses records one module, and must miss nothing."""

DOCUMENT = r"""["'/](zarr\.json|\.zarray|\.zattrs|\.zgroup|\.zmetadata)["']"""
SPELL_DOCUMENTS = ("format.layout", "interop.importing.plain_zarr")  # one reads stores of others

DRIVER_KNOWS = {"adapters.sampler", "errors", "format.rows"}

PYMC = {"pymc", "pytensor", "arviz", "arviz_base"}


def modules(package: Path) -> dict[str, Path]:
    found = {}
    for path in package.rglob("*.py"):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


@dataclass(frozen=True)
class Facts:
    """What a file imports: in all, outside of functions, and as pairs of module and name."""

    every: frozenset[str]
    early: frozenset[str]
    taken: tuple[tuple[str, str], ...]


@cache
def facts_of(text: str) -> Facts:
    every, early, taken = set(), set(), []

    def walk(node: ast.AST, is_late: bool) -> None:
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            taken.extend((node.module, alias.name) for alias in node.names)
        every.update(names)
        if not is_late:
            early.update(names)
        is_late = is_late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            walk(child, is_late)

    walk(ast.parse(text), False)
    return Facts(frozenset(every), frozenset(early), tuple(taken))


def room_of(module: str) -> str:
    return module.split(".")[0]


def breaches(package: Path) -> Iterator[str]:
    """Return what breaks a rule of the house, a sentence each."""
    known = modules(package)
    texts = {name: path.read_text() for name, path in known.items()}
    edges: dict[str, set[str]] = {}
    for name, text in texts.items():
        if name in ("", "__main__"):
            continue
        room = room_of(name)
        if room not in ROOMS:
            yield f"{name} is in no room"
            continue
        facts = facts_of(text)
        every, early = facts.every, facts.early
        inside = {n.removeprefix("checkpoint.") for n in every if n.startswith("checkpoint.")}
        inside = {n for n in inside if n in known and n not in packages_only(facts, known)}
        edges[name] = inside - {name}
        for other in inside:
            if room_of(other) in ROOMS and ROOMS.index(room_of(other)) < ROOMS.index(room):
                yield f"{name} imports {other}, which is above it"
        roots = {n.split(".")[0] for n in every}
        if "pymc" in roots and room != "_pymc":
            yield f"{name} imports pymc"
        if roots & (PYMC - {"pymc"}) and room not in ("_pymc", "reading"):
            yield f"{name} imports {', '.join(sorted(roots & PYMC))}"
        if room in ("reading", "recording", "hierarchy") and any(
            n.startswith("checkpoint._pymc") for n in every
        ):
            yield f"{name} imports _pymc"
        if room == "format" and roots & {"zarr"}:
            yield f"{name} imports zarr"
        if room == "adapters" and roots & {"zarr", "numcodecs"}:
            yield f"{name} imports zarr"
        if name == "chains.driver":
            for other in inside - DRIVER_KNOWS:
                yield f"{name}, the loop that draws, knows {other}"
        if name in ("opening", "checking") and any(
            n.startswith(("checkpoint._pymc", "checkpoint.runs", "checkpoint.chains"))
            for n in early
        ):
            yield f"{name} needs PyMC to be imported"
        private = {
            n for n in every if n.startswith("checkpoint.") and re.search(r"\._(?!pymc)\w+$", n)
        }
        for other in private:
            yield f"{name} imports the private {other}"
    for cycle in cycles(edges):
        yield f"a circle: {' -> '.join(cycle)}"
    for name, text in texts.items():
        if name != "stores.durability":
            calls = (
                r"os\.(p?write|replace|rename|link|unlink|remove|mkdir|makedirs|rmdir|f?truncate)\("
            )
            if "fsync(" in text or re.search(calls, text):
                yield f"{name} changes files"
        if name != "errors" and re.search(r"\bwarnings\.warn\(", text):
            yield f"{name} warns by itself, not at the line of the caller"
        if name not in SPELL_DOCUMENTS and re.search(DOCUMENT, re.sub(r"(?m)^ *>>>.*", "", text)):
            yield f"{name} spells the name of a document"
        if len(text.splitlines()) > 400:
            yield f"{name} is longer than 400 lines"


def packages_only(facts: Facts, known: dict[str, Path]) -> set[str]:
    """Return the packages from which a file imports modules, and nothing else."""
    taken: dict[str, list[bool]] = {}
    for module, name in facts.taken:
        package = module.removeprefix("checkpoint.")
        taken.setdefault(package, []).append(f"{package}.{name}" in known)
    return {package for package, are_modules in taken.items() if all(are_modules)}


def cycles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Return a circle of imports, late ones included, from each place where there is one."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
            return
        if name in done:
            return
        for other in sorted(edges.get(name, ())):
            yield from walk(other, [*path, name])
        done.add(name)

    for name in edges:
        yield from walk(name, [])


def test_the_house_is_in_order():
    assert list(breaches(PACKAGE)) == []


def test_the_rooms_are_those_on_the_map():
    places = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert places - {"__init__", "__main__", "__pycache__", "py"} == set(ROOMS)
    for room in ROOMS:
        assert f"`{room}`" in (checkpoint.__doc__ or "")


@pytest.mark.parametrize(
    ("place", "line", "expected"),
    [
        ("format/rows.py", "from checkpoint.stores import Store", "above it"),
        ("reading/view.py", "import pymc", "imports pymc"),
        ("recording/writer.py", "from checkpoint._pymc.steps import flatten", "imports _pymc"),
        ("stores/base.py", "def f():\n    from checkpoint.runs import active", "above it"),
        ("adapters/base.py", "import zarr", "imports zarr"),
        ("opening.py", "from checkpoint.runs import active", "needs PyMC"),
        ("runs/active.py", "import os\nos.rename('a', 'b')", "changes files"),
        ("chains/chain.py", "from checkpoint.recording.writer import _Logged", "private"),
        ("chains/driver.py", "from checkpoint.recording.writer import ChainWriter", "knows"),
        ("chains/driver.py", "from checkpoint.stores import Store", "knows"),
        ("format/layout.py", "from checkpoint.format import manifest", "circle"),
        ("recording/writer.py", 'KEY = "zarr.json"', "spells the name"),
        ("cellar.py", "", "no room"),
        ("reading/view.py", "import warnings\nwarnings.warn('x')", "warns by itself"),
    ],
)
def test_a_planted_breach_is_found(place, line, expected, tmp_path):
    shutil.copytree(PACKAGE, tmp_path, dirs_exist_ok=True)
    planted = tmp_path / place
    planted.write_text((planted.read_text() if planted.exists() else "") + f"\n{line}\n")
    assert any(expected in breach for breach in breaches(tmp_path))
