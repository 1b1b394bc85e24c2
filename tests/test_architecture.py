"""Imports point down, and each kind of knowledge has one place."""

import ast
import re
from pathlib import Path

import pytest

import checkpoint

PACKAGE = Path(checkpoint.__file__).parent

LAYERS = [
    {"errors", "layout", "verification", "json_object"},
    {"durability", "parents"},
    {"stores.base", "stores.holder", "stores.zip_records"},
    {"stores.file_lock", "stores.claims", "stores.remote", "stores.zip_scan"},
    {"stores.zip_archive", "stores.write_behind"},
    {"stores.claimed"},
    {"stores.directory", "stores.zip", "stores.wrapped", "stores.objects"},
    {"stores.resolve", "stores.serving"},
    {"stores"},
    {"plain", "generators", "unpacking", "arrays", "rows", "commit_log", "manifest",
     "manifest_check", "contents", "documents", "nodes", "hierarchy", "zarr_groups", "zarr2"},
    {"_pymc", "_pymc.steps", "_pymc.exactness", "_pymc.setup", "_pymc.model", "_pymc.results",
     "_pymc.progress", "_pymc.datasets", "_pymc.backends", "_pymc.counters", "_pymc.points",
     "_pymc.trees", "_pymc.adaptation", "_pymc.states"},
    {"adapters", "adapters.base", "adapters.fields", "adapters.generator_field",
     "adapters.growing", "adapters.kinds", "adapters.steps", "adapters.pickled",
     "adapters.schema"},
    {"pymc_store"},
    {"recovery", "sealing", "recording"},
    {"writer", "filling"},
    {"rehearsal", "chain"},
    {"population", "workers"},
    {"arguments", "interrupts"},
    {"checks"},
    {"run_setup"},
    {"views"},
    {"pymc_run"},
    {"inspection"},
    {"run"},
    {"driving", "verifying"},
    {"replaying"},
    {"imported_rows"},
    {"import_arviz", "import_pymc"},
    {"importing"},
    {"sampling", "converting", "trace_chain", "trace_groups", "trace_session"},
    {"trace_view"},
    {"trace"},
    {"cli.archives", "cli.models"},
    {"cli.compact", "cli.convert", "cli.repair", "cli.verify"},
    {"cli"},
    {""},
]  # fmt: skip

# Only where a function needs what is above it, at the time it is called.
LATE = {
    ("adapters.fields", "_pymc.steps"),
    ("rehearsal", "chain"),
    ("inspection", "replaying"),
}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


def imported_by(path: Path) -> set[str]:
    """Return what a file imports, with names of modules imported from a package resolved."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def inside(path: Path) -> set[str]:
    known = modules()
    names = {
        name.removeprefix("checkpoint").lstrip(".")
        for name in imported_by(path)
        if name.split(".")[0] == "checkpoint"
    }
    return {name for name in names if name in known and name}


def level(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if module in layer)


def test_every_module_has_a_layer():
    assert set(modules()) == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module):
    above = {
        other
        for other in inside(modules()[module])
        if level(other) > level(module) and (module, other) not in LATE
    }
    assert above == set()


def test_only_one_package_imports_pymc():
    users = {
        name
        for name, path in modules().items()
        if {n.split(".")[0] for n in imported_by(path)} & {"pymc", "pytensor", "arviz"}
    }
    assert {name for name in users if not name.startswith("_pymc")} == set()


def test_only_one_module_syncs():
    users = {name for name, path in modules().items() if "fsync(" in path.read_text()}
    assert users == {"durability"}


def test_only_one_module_changes_files():
    """The bench of crashes and power losses records that module, and must miss nothing."""
    calls = r"os\.(p?write|replace|rename|link|unlink|remove|mkdir|makedirs|rmdir|f?truncate)\("
    users = {name for name, path in modules().items() if re.search(calls, path.read_text())}
    assert users == {"durability"}


def test_adapters_know_no_zarr_and_no_store():
    for name, path in modules().items():
        if name.startswith("adapters"):
            assert not {n.split(".")[0] for n in imported_by(path)} & {"zarr", "numcodecs"}
            assert not {n for n in inside(path) if n.startswith("stores")}


def test_files_stay_small():
    long = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: n for name, n in long.items() if n > 400} == {}
