"""Stores of somebody who means ill: opened, inspected, exported and continued.

Each attack is made on a copy of a store, beside files that must not change. A process of its own,
with little memory and little time, then does with the store all that one does with a store.
"""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from click.testing import CliRunner

import checkpoint
from checkpoint.cli import main as command
from checkpoint.errors import CheckpointError
from checkpoint.interop.importing.trees import open_groups
from folders import FIXTURES
from torture import attacks_on_readers  # noqa: F401  # which adds to them
from torture.attacks import ATTACKS, Attack, Outside, edit_manifest
from torture.report import Effort, Row

__all__ = ["Verdict", "make_bases", "trial", "try_attack"]

MEMORY_NBYTES = 3 << 30
"""Address space that a victim may take beyond what it has."""

GROWTH_NBYTES = 768 << 20
"""Memory that it may use beyond what it has; that of the bombs is larger."""

SECONDS = 60.0
"""Time of the processor; who waits for something that never comes has five times that."""

AT_ONCE = 2

ARGUMENTS = {
    "draws": 20, "tune": 8, "chains": 2, "cores": 1, "random_seed": 7, "draws_per_chunk": 4,
    "commit_interval": 0, "progressbar": False, "quiet": True, "compute_convergence_checks": False,
    "discard_tuned_samples": False,
}  # fmt: skip

STEPS = ("open", "inspect", "verify", "convert", "convert to zip", "command", "sample")

FIXTURES = FIXTURES / "pymc_zarr"


@dataclass
class Verdict:
    """What came of an attack.

    Attributes
    ----------
    broken : list of str
        Promises that did not hold.
    refused : dict of str to str
        The error by the step that it ended.
    seconds : float
    """

    broken: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def model() -> pm.Model:
    with pm.Model(coords={"site": ["a", "b"]}) as made:
        s = pm.HalfNormal("s")
        x = pm.Normal("x", dims="site")
        pm.Normal("y", x, s, observed=np.array([0.5, -0.5]), dims="site")
    return made


class _StopAfter:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, trace: Any, draw: Any) -> None:
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt


def compiled() -> tuple[pm.Model, Any]:
    """Return a model and a step method, which takes longer than all that is done to a store."""
    with model() as made:
        return made, pm.DEMetropolisZ()


def sample(store: Any, made: pm.Model, step: Any, **arguments: Any) -> Any:
    return checkpoint.sample(store, model=made, step=step, **{**ARGUMENTS, **arguments})


def make_bases(folder: Path) -> dict[str, Path]:
    """Make the stores that are attacked: runs interrupted in their second chain."""
    stop = {"callback": _StopAfter(28 + 17)}
    sample(folder / "v3.zarr", *compiled(), **stop)
    bases = {
        "v3": folder / "v3.zarr", "v2": folder / "v2.zarr", "zip": folder / "zip.zip",
        "pymc": folder / "pymc.zarr",
    }  # fmt: skip
    checkpoint.convert(bases["v3"], bases["v2"], zarr_format=2)
    for name in ("v3", "v2"):  # who forges a store leaves out what would give him away
        edit_manifest(bases[name], _without_checksums)
    with zipfile.ZipFile(bases["zip"], "w") as archive:
        for path in sorted(bases["v3"].rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(bases["v3"]))
    with zipfile.ZipFile(sorted(FIXTURES.glob("*_compound.zip"))[0]) as archive:
        archive.extractall(bases["pymc"])
    for zarr_format in (2, 3):
        bases[f"tree{zarr_format}"] = folder / f"tree{zarr_format}.zarr"
        _as_tree(bases["v3"], bases[f"tree{zarr_format}"], zarr_format)
    return bases


def _as_tree(run: Path, target: Path, zarr_format: int) -> None:
    """Write draws as xarray does: what `convert` reads of others."""
    found = checkpoint.open(run)
    groups = {name: getattr(found, name).load() for name in ("posterior", "sample_stats")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.DataTree.from_dict(groups).to_zarr(target, zarr_format=zarr_format)


def _without_checksums(manifest: dict[str, Any]) -> None:
    for name in ("checksum", "documents"):
        manifest.pop(name)


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Make all attacks, or one in six."""
    attacks = ATTACKS[effort.of(seed % 6, 0) :: effort.of(6, 1)]
    fast = "/dev/shm" if os.path.isdir("/dev/shm") else None  # nothing here is about disks
    with tempfile.TemporaryDirectory(dir=fast) as place:
        bases = make_bases(Path(place))
        results = list(_Victims(bases).run(attacks, Path(place)))
    broken = [
        f"{attack.name} on {attack.base}: {line}"
        for attack, verdict in results
        for line in verdict.broken
    ]
    ends = Counter(
        min(verdict.refused, key=STEPS.index) if verdict.refused else "" for _, verdict in results
    )
    harmless = ends.pop("", 0)
    refused = ", ".join(f"{ends[step]} on {step}" for step in STEPS if ends[step])
    slowest = max(verdict.seconds for _, verdict in results)
    return [
        Row(
            "somebody forges a store and gives it to you",
            "no code of it runs, nothing outside of it is read or changed; what cannot be read "
            "ends in an error that says so, within bounds of memory and time",
            f"{len(results)} attacks on directories, zip files and stores of ZarrTrace (paths, "
            "counts, dtypes, links, pipes, pickles, bombs, generators, escapes), and results that "
            "xarray wrote, each in a process with "
            f"{MEMORY_NBYTES >> 30} GiB: {', '.join(STEPS)}. Refused: {refused}; harmless, with "
            f"the draws as they were: {harmless}. The slowest took {slowest:.1f} s",
            len(results),
            broken,
        )
    ]


def try_attack(attack: Attack, bases: Mapping[str, Path], folder: Path) -> Verdict:
    """Make one attack and look at what comes of it."""
    [(_, verdict)] = _Victims(bases).run([attack], folder)
    return verdict


class _Victims:
    """Processes that use forged stores, a few at a time, forked from one that has all imported."""

    def __init__(self, bases: Mapping[str, Path]) -> None:
        self._bases = bases
        self._rows = {
            name: rows_of_tree(path) if name.startswith("tree") else rows_of(checkpoint.open(path))
            for name, path in bases.items()
        }
        self._compiled = compiled()

    def run(self, attacks: Sequence[Attack], folder: Path) -> Iterator[tuple[Attack, Verdict]]:
        """Yield attacks with what came of them, as they end."""
        waiting = [*enumerate(attacks)]
        running: dict[int, tuple[Attack, Path, float, Any]] = {}
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                index, attack = waiting.pop(0)
                here = folder / f"attack-{index}"
                before = self._prepare(attack, here)
                running[self._fork(attack, here)] = (attack, here, time.monotonic(), before)
            time.sleep(0.005)
            for pid in [*running]:
                attack, here, began, before = running[pid]
                done, status, usage = os.wait4(pid, os.WNOHANG)
                late = time.monotonic() - began > 5 * SECONDS
                if not done and late:
                    os.kill(pid, signal.SIGKILL)
                    done, status, usage = os.wait4(pid, 0)
                if done:
                    del running[pid]
                    late |= usage.ru_utime + usage.ru_stime > SECONDS
                    verdict = _judge(here, status, usage.ru_maxrss << 10, late, before)
                    verdict.seconds = time.monotonic() - began
                    _remove(here)
                    yield attack, verdict

    def _prepare(self, attack: Attack, here: Path) -> Any:
        """Copy a store, make the attack, and return what lies outside then."""
        here.mkdir()
        outside = here / "outside"
        (outside / "folder").mkdir(parents=True)
        (outside / "file").write_text("mine")
        (outside / "folder" / "file").write_text("mine too")
        (here / "inside").mkdir()
        base = self._bases[attack.base]
        store = here / "inside" / f"store{base.suffix}"
        (shutil.copytree if base.is_dir() else shutil.copy)(base, store)
        attack.change(store, Outside(outside, here / "sentinel"))
        (here / "store").write_text(str(store))
        return tree_of(outside)

    def _fork(self, attack: Attack, here: Path) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        try:
            _be_victim(here, self._rows[attack.base], attack.base, self._compiled)
        finally:
            os._exit(70)
        raise AssertionError


def _be_victim(here: Path, rows: Mapping[str, Any], base: str, made: tuple[Any, Any]) -> None:
    """Use a store in every way; write what came of it; end."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_NBYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir(here / "inside")
    warnings.simplefilter("ignore")
    outcome: dict[str, Any] = {}
    store = (here / "store").read_text()
    for step, use in _uses(store, here / "inside", rows, base, made):
        (here / "at").write_text(step)
        try:
            outcome[step] = use()
        except CheckpointError as error:
            outcome[step] = f"refused: {type(error).__name__}: {str(error)[:300]}"
            outcome[step] = raw_text("".join(traceback.format_exception(error))) or outcome[step]
        except BaseException as error:
            outcome[step] = f"BROKEN: {type(error).__name__}: {str(error)[:300]}"
    (here / "outcome").write_text(json.dumps(outcome))
    os._exit(0)


def _uses(
    store: str, folder: Path, rows: Mapping[str, Any], base: str, made: tuple[Any, Any]
) -> Iterator[tuple[str, Callable[[], str]]]:
    def inspect() -> str:
        run = checkpoint.open(store)
        repr(run)
        for warmup in ("warmup_", ""):
            for group in ("posterior", "unconstrained_posterior", "sample_stats"):
                getattr(run, warmup + group)
        run.to_inferencedata(save_warmup=True, keep_warning_stat=base != "pymc")
        if base != "pymc":
            for chain in range(run.chains):
                run.sampling_state(chain, -1)
        return differs(rows_of(run), rows)

    def verify() -> str:
        return raw_text(str(checkpoint.verify(store)))

    def read_tree() -> str:
        return differs(rows_of_tree(store), rows)

    def convert(target: str, **arguments: Any) -> str:
        given = {"model": made[0]} if base == "pymc" else arguments
        return differs(rows_of(checkpoint.convert(store, folder / target, **given)), rows)

    def invoke() -> str:
        result = CliRunner().invoke(command, ["convert", store, str(folder / "by-command.zip")])
        if isinstance(result.exception, CheckpointError):
            raise result.exception
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return f"BROKEN: {result.exception!r}"
        refused = f"refused: {result.output[-300:]}" if result.exit_code else ""
        return raw_text(result.output) or refused

    def go_on() -> str:
        sample(store, *made)
        return ""

    if base.startswith("tree"):
        yield "convert", read_tree
        return
    yield "open", lambda: checkpoint.open(store) and ""
    yield "inspect", inspect
    yield "verify", verify
    yield "convert", lambda: convert("target.zarr", zarr_format=2)
    yield "convert to zip", lambda: convert("target.zip", zarr_format=3, draws_per_chunk=3)
    yield "command", invoke
    yield "sample", go_on


def rows_of(run: Any) -> dict[str, Any]:
    """Return recorded draws by variable, a list of bytes for each chain."""
    found = {}
    for path in run._paths("posterior"):
        found[path] = [
            run._rows(path, chain, 0, int(run.draw_idx[chain])).tobytes()
            for chain in range(run.chains)
        ]
    return found


def rows_of_tree(path: Any) -> dict[str, Any]:
    """Return draws of a result of others by variable, as `convert` reads them."""
    _, groups = open_groups(path, allow_pickle=False)
    return {
        str(name): [values.tobytes() for values in array.values]
        for name, array in groups["posterior"].data_vars.items()
    }


def raw_text(text: str) -> str:
    """Return what is broken if a text has what a terminal obeys."""
    raw = sorted({c for c in text if c not in "\n\t" and not c.isprintable()})
    return f"BROKEN: {raw!a} would reach a terminal" if raw else ""


def differs(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return what is broken if recorded draws are not those expected, or the first of them."""
    for path, chains in found.items():
        if path not in expected or len(chains) > len(expected[path]):
            return f"BROKEN: {path} was never drawn"
        for chain, (data, whole) in enumerate(zip(chains, expected[path], strict=False)):
            if not whole.startswith(data):
                return f"BROKEN: {path} of chain {chain} is not what was drawn"
    return ""


def tree_of(folder: Path) -> dict[str, Any]:
    """Return all that a folder holds, with modes and contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        is_file = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if is_file else b""
        found[str(path.relative_to(folder))] = (stat.st_mode, stat.st_mtime_ns, content)
    return found


def _judge(here: Path, status: int, n_used: int, late: bool, before: Any) -> Verdict:
    verdict = Verdict()
    at = (here / "at").read_text() if (here / "at").exists() else "the beginning"
    if late:
        verdict.broken.append(f"{at} takes more than {SECONDS:.0f} s")
    elif status:
        verdict.broken.append(f"{at} ends the process (status {status})")
    else:
        for step, text in json.loads((here / "outcome").read_text()).items():
            if text.startswith("BROKEN"):
                verdict.broken.append(f"{step}: {text}")
            elif text:
                verdict.refused[step] = text
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if n_used > most + GROWTH_NBYTES:
        verdict.broken.append(f"it used {(n_used - most) >> 20} MiB")
    if (here / "sentinel").exists():
        verdict.broken.append("code of the store was run")
    if tree_of(here / "outside") != before:
        verdict.broken.append("what lies outside the store was changed")
    return verdict


def _remove(here: Path) -> None:
    shutil.rmtree(here, ignore_errors=True)
    if here.exists():  # too deep for shutil
        os.system(f"rm -rf '{here}'")
