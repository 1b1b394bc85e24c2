"""Damage what is on disk: flip bytes, remove files, cut them short, append to them.

What is shown then equals what was recorded, or is a beginning of it with a warning, or it is an
error that names the place. `verify` finds all that is not harmless.

Bytes are flipped one at a time in finished and in interrupted runs, in directories and zip files,
of Zarr format 3 and 2. A part of a run that does not read the key that was damaged is not asked
again; for a sample of all flips everything is.
"""

import collections
import contextlib
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

import checkpoint
from checkpoint.errors import CheckpointError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root
from checkpoint.reading.checksums import Look
from checkpoint.reading.looking import verify_store
from checkpoint.stores import Store, ZipStore, as_store
from checkpoint.stores.zip.archive import Archive
from checkpoint.stores.zip.records import LOCAL_NBYTES
from compare import unequal
from settings import SMALL
from torture.report import Effort, Row
from torture.spread import spread
from torture.views_of_runs import (
    Reads,
    Shown,
    depends,
    open_run,
    parts_of,
    reads_of,
    show,
    shown_differences,
)

TUNE, DRAWS, CHUNK, CHAINS = 3, 5, 3, 2
N_BEFORE_STOP = TUNE + DRAWS + TUNE + 4
"""Draws of both chains when a run is interrupted: two of them are then in the log only."""

ARGUMENTS: dict[str, Any] = {
    "draws": DRAWS,
    "tune": TUNE,
    "chains": CHAINS,
    "cores": 1,
    "random_seed": 20,
    "draws_per_chunk": CHUNK,
    "commit_interval": 0,
    **SMALL,
}

IN_MEMORY = Path("/dev/shm")

_AT_ONCE = 500
"""Changes to one copy of a store."""


@dataclass(frozen=True)
class Change:
    """Something done to one file: `data` at `at` and nothing else, or in place of all of it."""

    file: Path
    kind: str
    at: int
    data: bytes | None

    def __str__(self) -> str:
        return f"{self.kind} {self.file.name} at {self.at}"


@dataclass
class Case:
    """A store with a run, as it was before anything was done to it."""

    name: str
    place: Path
    is_zip: bool
    is_interrupted: bool
    shown: Shown
    of_parts: dict[str, Reads]
    of_look: dict[tuple[str, Any], Reads]
    entries: dict[str, Any] = field(default_factory=dict)

    def files(self) -> list[Path]:
        found = [self.place] if self.is_zip else sorted(self.place.rglob("*"))
        return [file for file in found if file.is_file() and file.stat().st_size]

    def key(self, file: Path) -> str:
        return file.relative_to(self.place).as_posix()


@dataclass
class Tally:
    """What became of the changes so far."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        self.broken += other.broken

    def __str__(self) -> str:
        n = self.counts
        return (
            f"{n['harmless']:,} harmless, {n['caught']:,} an error that names the place, "
            f"{n['fewer']:,} fewer draws and a warning, {n['torn']:,} as if the last commit had "
            f"not been made, {n['verify']:,} found by verify alone, "
            f"{n['different']:,} silently different"
        )


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Damage runs in every way, and continue some of those that were interrupted."""
    if IN_MEMORY.is_dir():
        folder = Path(tempfile.mkdtemp(prefix="torture-", dir=IN_MEMORY))
    try:
        cases = [
            make_case(*kind, folder)
            for kind in itertools.product((3, 2), (False, True), (False, True))
        ]
        return [
            _flips(cases, effort, seed),
            _files(cases, effort, seed),
            _continued([c for c in cases if c.is_interrupted], effort, seed),
        ]
    finally:
        if IN_MEMORY in folder.parents:
            shutil.rmtree(folder)


def _flips(cases: Sequence[Case], effort: Effort, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    tally, n_full, n_whole = Tally(), 0, 0
    work = []
    for case in cases:
        chosen = flips(case, effort, rng)
        n_whole += len(chosen) == sum(file.stat().st_size for file in case.files())
        in_full = set(rng.permutation(len(chosen))[: effort.of(12, 100)].tolist())
        n_full += len(in_full)
        told = [(change, i in in_full) for i, change in enumerate(chosen)]
        work += [(case, told[i : i + _AT_ONCE]) for i in range(0, len(told), _AT_ONCE)]
    for some in spread(_noted, work, chunk=1):
        tally.add(some)
    n = tally.counts.total()
    every = f", every byte of {n_whole} of them," if n_whole else ""
    return Row(
        fails="any byte of a store",
        survives="every other draw: what is shown was recorded, and errors name the place",
        tested=f"{n:,} bytes of {len(cases)} stores{every} changed to another value, one at a "
        f"time; {n_full:,} of them with everything read and verified: {tally}",
        n_tried=n,
        broken=[f"seed {seed}: {line}" for line in tally.broken],
    )


def _noted(work: tuple[Case, list[tuple[Change, bool]]]) -> Tally:
    """Make changes to a copy of a store, one at a time, and note what each does."""
    case, told = work
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=case.place.parent) as folder:
        place = Path(folder) / case.place.name
        (shutil.copy if case.is_zip else shutil.copytree)(case.place, place)
        copied = replace(case, place=place)
        for change, in_full in told:
            file = place / change.file.relative_to(case.place)
            note(tally, copied, replace(change, file=file), in_full)
    return tally


def flips(case: Case, effort: Effort, rng: np.random.Generator) -> list[Change]:
    """Return flips of single bytes: of every byte, or of some spread over all files."""
    files = case.files()
    n_quick = 40 if case.is_zip else 1
    changes = []
    for file in files if effort is Effort.LONG else _some(files, 36, rng):
        data = file.read_bytes()
        at = _some(range(len(data)), effort.of(n_quick, len(data) // _stride(case, file)), rng)
        values = rng.integers(1, 256, len(at)).tolist()
        changes += [
            Change(file, "flip", i, bytes([data[i] ^ value]))
            for i, value in zip(at, values, strict=True)
        ]
    return changes


def _stride(case: Case, file: Path) -> int:
    """Return of how many bytes one is flipped when there is time.

    All, in Zarr format 3. In format 2 the values are the same ones: all of a finished directory,
    whose metadata is what differs, and some of the others.
    """
    if case.shown.manifest.zarr_format == 3:
        return 1
    if case.is_zip:
        return 24 if case.is_interrupted else 4
    return 8 if case.is_interrupted and _is_metadata(file) else 1


def _some(items: Sequence[Any], n: int, rng: np.random.Generator) -> list[Any]:
    if n >= len(items):
        return list(items)
    return [items[i] for i in sorted(rng.choice(len(items), n, replace=False).tolist())]


def _files(cases: Sequence[Case], effort: Effort, seed: int) -> Row:
    rng = np.random.default_rng(seed + 1)
    tally = Tally()
    for case in cases:
        files = case.files()
        changes = [change for file in files for change in of_file(file, rng, case.is_zip)]
        for change in changes if case.is_zip else _some(changes, effort.of(12, len(changes)), rng):
            note(tally, case, change, in_full=effort is Effort.QUICK)
    n = tally.counts.total()
    return Row(
        fails="a file of a store is gone, cut short, or longer than it was",
        survives="every other draw; of a zip file that was cut, what is before the cut",
        tested=f"{n:,} times, in {len(cases)} stores: {tally}",
        n_tried=n,
        broken=[f"seed {seed}: {line}" for line in tally.broken],
    )


def of_file(file: Path, rng: np.random.Generator, is_zip: bool) -> Iterator[Change]:
    """Return what is done to a whole file."""
    data = file.read_bytes()
    yield Change(file, "remove", 0, None)
    for _ in range(20 if is_zip else 1):
        n = int(rng.integers(0, len(data)))
        yield Change(file, "cut", n, data[:n])
        garbage = rng.integers(0, 256, int(rng.integers(1, 64)), dtype="u1").tobytes()
        yield Change(file, "extend", len(data), data + garbage)


@contextlib.contextmanager
def changed(change: Change) -> Iterator[None]:
    """Do a change for a while."""
    if change.kind == "flip":
        descriptor = os.open(change.file, os.O_RDWR)
        try:
            before = os.pread(descriptor, 1, change.at)
            os.pwrite(descriptor, change.data or b"", change.at)
            yield
            os.pwrite(descriptor, before, change.at)
        finally:
            os.close(descriptor)
        return
    whole = change.file.read_bytes()
    try:
        if change.data is None:
            change.file.unlink()
        else:
            change.file.write_bytes(change.data)
        yield
    finally:
        change.file.write_bytes(whole)


def note(tally: Tally, case: Case, change: Change, in_full: bool) -> None:
    """Make a change, look what it does, and note it."""
    with changed(change):
        try:
            outcome, problem = judge(case, change, in_full)
            if in_full and (in_parts := judge(case, change, False)) != (outcome, problem):
                problem = f"as a whole {outcome} {problem}, in parts {' '.join(in_parts)}"
        except Exception as error:  # whatever it is, it is not what was promised
            outcome, problem = "different", f"{type(error).__name__}: {error}"
    tally.counts[outcome] += 1
    if problem:
        tally.broken.append(f"{case.name}, {change}: {problem}")


def judge(case: Case, change: Change, in_full: bool) -> tuple[str, str]:
    """Return what a change did, and what is wrong with that."""
    store = as_store(case.place)
    keys, is_listed_anew = _changed_keys(case, change, store)
    if not keys and not in_full:  # in what was superseded, perhaps
        return ("verify" if case.is_zip and _is_noticed(store) else "harmless"), ""

    def is_touched(reads: Reads) -> bool:
        return in_full or any(depends(reads, key, is_listed_anew) for key in keys)

    touched = [name for name, reads in case.of_parts.items() if is_touched(reads)]
    parts_looked_at = [part for part, reads in case.of_look.items() if is_touched(reads)]
    outcome = problem = ""
    try:
        if touched:
            run, warned = _open(case, store, "open" in touched)
            parts = {n: p for n, p in parts_of(run).items() if n in touched}
            outcome, problem = _held(case, change, show(run, warned, parts))
    except CheckpointError as error:
        outcome, problem = "caught", _names(case, change, keys, str(error))
    if problem:
        return "different", problem
    manifest = None if "open" in touched else case.shown.manifest
    n_found = _n_found(case, store, manifest, None if in_full else parts_looked_at)
    if n_found:
        return outcome if outcome not in ("", "harmless") else "verify", ""
    if outcome in ("caught", "fewer"):
        return outcome, f"{outcome}, and verify finds nothing"
    return outcome or "harmless", ""


def _open(case: Case, store: Store, is_touched: bool) -> tuple[checkpoint.Run, bool]:
    return open_run(store) if is_touched else (checkpoint.Run(store, case.shown.manifest), False)


def _held(case: Case, change: Change, shown: Shown) -> tuple[str, str]:
    differing = shown_differences(shown, case.shown)
    if differing:
        return "different", f"shown differently: {', '.join(differing[:5])}"
    if shown.draw_idx == case.shown.draw_idx:
        return "harmless", ""
    if shown.warned:
        return "fewer", ""
    if is_last_commit(case, change):
        return "torn", ""
    return "different", f"draws {shown.draw_idx}, of {case.shown.draw_idx}, without a warning"


def is_last_commit(case: Case, change: Change) -> bool:
    """Return whether a change looks as if the writer had been killed before its last commit.

    The last log entry of a chain, if it is gone, leaves no trace; nor does the torn end of a file.
    """
    if not case.is_interrupted:
        return False
    if case.is_zip:
        last = max(e.offset for key, e in case.entries.items() if key.startswith(f"{layout.LOG}/c"))
        return change.kind == "cut" or change.at >= last
    entries = sorted(change.file.parent.iterdir()) if change.file.parent.exists() else []
    is_entry = layout.start_of_log_entry(change.file.name) is not None
    return change.kind == "remove" and is_entry and all(e.name < change.file.name for e in entries)


def _changed_keys(case: Case, change: Change, store: Store) -> tuple[set[str], bool]:
    """Return the keys whose values are others now, and whether keys have come or gone."""
    if not case.is_zip:
        return {case.key(change.file)}, change.kind == "remove"
    assert isinstance(store, ZipStore)
    try:
        entries = _entries(store)
    except CheckpointError:
        return {*case.entries}, True
    if entries == case.entries and change.kind == "flip":
        # A value is read from where its entry says, and nowhere else.
        return {
            key
            for key, entry in entries.items()
            if 0 <= change.at - entry.offset < LOCAL_NBYTES + len(key.encode()) + entry.n_packed
        }, False
    came_or_went = entries.keys() ^ case.entries.keys()
    moved = {
        key for key in entries.keys() & case.entries.keys() if entries[key] != case.entries[key]
    }
    inside = {
        key
        for key, entry in entries.items()
        if change.kind != "flip"
        or entry.offset <= change.at < entry.offset + 65_600 + entry.n_packed
    }
    return came_or_went | moved | inside, bool(came_or_went)


def _is_noticed(store: Store) -> bool:
    assert isinstance(store, ZipStore)
    with store._reading() as archive:
        return archive is not None and bool(archive.found.damaged)


def _entries(store: ZipStore) -> dict[str, Any]:
    with store._reading() as archive:
        return {} if archive is None else dict(archive.entries)


def _names(case: Case, change: Change, keys: set[str], text: str) -> str:
    """Return what is missing from the text of an error."""
    if len(keys) != 1 or case.is_zip:
        is_named = str(case.place) in text or any(key in text for key in keys)
    else:
        is_named = any(key in text for key in keys)
    if not is_named:
        return f"the error does not name {', '.join(sorted(keys)[:3])}: {text}"
    if len(keys) == 1 and change.kind == "flip":
        chain = _chain_of(case, next(iter(keys)))
        if chain is not None and f"chain {chain}" not in text:
            return f"the error does not name chain {chain}: {text}"
    return ""


def _chain_of(case: Case, key: str) -> int | None:
    path, _, name = key.rpartition("/")
    if path.startswith(f"{layout.LOG}/c/"):
        return int(path.rsplit("/", 1)[1])
    of_rows = {layout.path_of_phase(c.path, w) for c in case.shown.manifest.columns for w in (0, 1)}
    index = name.removeprefix("c.").split(".")
    is_chunk = index[0].isdigit() and path in {*of_rows, layout.DRAW_IDX}
    return int(index[0]) if is_chunk else None


def _n_found(
    case: Case, store: Store, manifest: Manifest | None, parts: Sequence[tuple[str, Any]] | None
) -> int:
    """Return how much `verify` finds: as a whole, or in the parts that may find something."""
    if parts is None:
        try:
            return len(verify_store(as_store(case.place)).findings)
        except CheckpointError:
            return 1
    try:
        manifest = manifest or read_root.existing_manifest(store)
    except CheckpointError:
        return 1
    look = Look(store, manifest)
    n = sum(len(list(look.findings(*part))) for part in parts)
    return n or (len(list(look._place([]))) if case.is_zip else 0)


def _continued(cases: Sequence[Case], effort: Effort, seed: int) -> Row:
    """Continue runs that were damaged, and compare with one that nothing happened to."""
    rng = np.random.default_rng(seed + 2)
    whole = sample(case_folder(cases) / "whole.zarr")
    counts: collections.Counter[str] = collections.Counter()
    broken = []
    for case in cases:
        files = [
            f for f in case.files() if case.is_zip or not _is_metadata(f) or rng.random() < 0.1
        ]
        for _ in range(effort.of(3, 25)):
            file = files[int(rng.integers(len(files)))]
            data = file.read_bytes()
            at = int(rng.integers(len(data)))
            change = Change(file, "flip", at, bytes([data[at] ^ int(rng.integers(1, 256))]))
            outcome = continue_damaged(case, change, whole)
            counts[outcome.partition(":")[0]] += 1
            if outcome.startswith("different"):
                broken.append(f"seed {seed}: {case.name}, {change}: {outcome}")
    n = counts.total()
    return Row(
        fails="a byte of an interrupted run, which is then continued",
        survives="the same result, bit for bit, or an error that names the place",
        tested=f"{n:,} damaged runs continued: {counts['equal']:,} equal the run that nothing "
        f"happened to, {counts['refused']:,} are refused with an error, "
        f"{counts['different']:,} differ",
        n_tried=n,
        broken=broken,
    )


def continue_damaged(case: Case, change: Change, whole: Any) -> str:
    """Continue a copy of a damaged run; return what came of it."""
    with changed(change):
        target = case.place.with_name(f"again-{case.place.name}")
        (shutil.copy if case.is_zip else shutil.copytree)(case.place, target)
    try:
        found = unequal(sample(target, zarr_format=None), whole)
        return f"different: {', '.join(found)}" if found else "equal"
    except CheckpointError as error:
        key = change.file.name if case.is_zip else case.key(change.file)
        is_named = key in str(error) or target.name in str(error)
        return "refused" if is_named else f"different: the error does not name {key}: {error}"
    except Exception as error:
        return f"different: {type(error).__name__}: {error}"
    finally:
        target.unlink() if case.is_zip else shutil.rmtree(target)


def _is_metadata(file: Path) -> bool:
    return file.name in ("zarr.json", ".zmetadata", ".zarray", ".zgroup", ".zattrs")


def case_folder(cases: Sequence[Case]) -> Path:
    return cases[0].place.parent


def small_model() -> pm.Model:
    """Return a model with a transform, data, and coordinates."""
    with pm.Model(coords={"place": ["a", "b"]}) as model:
        s = pm.HalfNormal("s")
        at = pm.Data("at", np.array([1.0, 2.0]), dims="place")
        pm.Normal("y", s * at, observed=np.array([0.3, 0.4]), dims="place")
    return model


def sample(place: Path, **more: Any) -> Any:
    """Sample the run that is damaged, or go on with it."""
    with small_model(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return checkpoint.sample(
            place, **(ARGUMENTS | more), step=pm.Metropolis(), discard_tuned_samples=False
        )


def make_case(zarr_format: int, is_zip: bool, is_interrupted: bool, folder: Path) -> Case:
    """Make a store, interrupted or finished, and look at it."""
    state = "interrupted" if is_interrupted else "finished"
    kind = "zip" if is_zip else "zarr"
    place = folder / f"{state}-{zarr_format}.{kind}"
    if not is_interrupted:
        sample(place, zarr_format=zarr_format)
    else:
        _interrupt(place, folder / f"working.{kind}", zarr_format)
    shown, of_parts, of_look = reads_of(as_store(place))
    entries = dict(Archive(place, writable=False).entries) if is_zip else {}
    name = f"{state} {kind} of Zarr format {zarr_format}"
    return Case(name, place, is_zip, is_interrupted, shown, of_parts, of_look, entries)


def _interrupt(place: Path, working: Path, zarr_format: int) -> None:
    """Leave a store as a writer that was killed leaves it: with a log, and without tidying up."""
    drawn = itertools.count(1)

    def callback(trace: Any, draw: Any) -> None:
        if next(drawn) == N_BEFORE_STOP:
            (shutil.copy if working.is_file() else shutil.copytree)(working, place)

    sample(working, zarr_format=zarr_format, callback=callback)
    working.unlink() if working.is_file() else shutil.rmtree(working)
