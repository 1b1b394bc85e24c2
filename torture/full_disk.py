"""Disks that are full, files that may not grow, file systems and permissions that are lost."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zarr

import checkpoint
from checkpoint.errors import CheckpointError, RunNotFoundError, StoreWriteError
from checkpoint.stores import ZipStore
from models import normals
from settings import SMALL
from torture.diary import Diary
from torture.file_systems import CannotMountError, Ext4, FileSystem, in_namespace, mounted
from torture.oracle import Oracle
from torture.report import Effort, Row
from torture.warm import Case, Session, Start, Warm

__all__ = ["CASE", "ROOT_FITS", "Bench", "Trouble", "trial"]

CHAINS = 2

CASE = Case(
    normals,
    {
        "draws": 3000,
        "tune": 500,
        "chains": CHAINS,
        "random_seed": 3,
        "draws_per_chunk": 3000,
        "commit_interval": 0.02,
        "discard_tuned_samples": False,
        **SMALL,
    },
    step="Metropolis",
)

ROOT_FITS = 55_000
"""Bytes that every file of a directory fits in, save chunks of the sampler's state."""

PATIENCE = 300.0

SURVIVES = (
    "what was recorded, read by checkpoint.open and by zarr; the run stops with an error that says "
    "where, why and what to do; the same command goes on when that is mended, and its result is "
    "exact"
)


@dataclass
class Trouble:
    """What is to happen to one run.

    Attributes
    ----------
    name : str
    reasons : tuple of str
        What the operating system may say, one of them.
    begin : callable
        Called with the session when it was started.
    mend : callable
        Makes the way free again.
    start : dict
        Of `Start`, for the run in trouble alone.
    """

    name: str
    reasons: tuple[str, ...]
    mend: Callable[[], None]
    begin: Callable[[Session, Diary], None] = lambda session, diary: None
    start: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tally:
    """What became of the runs in trouble."""

    n_tried: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    n_rows: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{n:,} {where}" for where, n in sorted(self.stopped.items()))

    def row(self, fails: str, tested: str) -> Row:
        """Return what became of the runs as a row of the table."""
        return Row(fails, SURVIVES, tested, self.n_tried, self.broken)


class Bench:
    """Runs in trouble, and what is held of each.

    Parameters
    ----------
    folder : Path
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.rng = random.Random(seed)
        self.warm = Warm(CASE, folder / "warm")

    def __enter__(self) -> "Bench":
        self.warm.wait()
        self.oracle = Oracle(self.warm.oracle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.warm.close()

    def sample(self, store: Path, **how: Any) -> tuple[Session, Diary]:
        """Start a run, or go on with it, in a process of its own."""
        path = self.folder / "diary.npy"
        diary = Diary(path, CHAINS, CASE.total)
        cores = how.pop("cores", 1)
        start = Start(store, self.folder / "outcome.json", {"cores": cores}, diary=path, **how)
        return self.warm.start(start), diary

    def try_one(self, tally: Tally, trouble: Trouble, store: Path) -> None:
        """Sample into trouble, look, mend, go on, compare."""
        cores = self.rng.choice([1, 2])
        label = f"seed {self.seed}, {trouble.name} no. {tally.n_tried} ({store.name}, {cores=})"
        tally.n_tried += 1
        wrong: list[str] = []
        session, diary = self.sample(store, cores=cores, **trouble.start)
        trouble.begin(session, diary)
        wrong += _did_not_end(session)
        wrong += self._unclear(session, trouble, store)
        found = self.oracle.look(store)
        tally.n_rows += sum(found.n_rows)
        wrong += found.wrong
        wrong += [
            f"chain {chain}: {n} draws, {durable} were said to be durable"
            for chain, (n, durable) in enumerate(zip(found.n_rows, diary.durable, strict=True))
            if n < durable
        ]
        wrong += _unreadable_for_zarr(store)
        tally.stopped[self._where(session, found.n_rows, store)] += 1
        trouble.mend()
        wrong += self.oracle.look(store).wrong
        session, _ = self.sample(store, cores=cores)
        wrong += _did_not_end(session)
        wrong += self._inexact(session, store)
        tally.broken += [f"{label}: {line}" for line in wrong]
        _remove(store)

    def convert(self, tally: Tally, trouble: Trouble, store: Path) -> None:
        """Convert into trouble, mend, convert again, compare."""
        label = f"seed {self.seed}, converting, {trouble.name} no. {tally.n_tried} ({store.name})"
        tally.n_tried += 1
        wrong: list[str] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a zip file could not be compacted
                checkpoint.convert(self.warm.oracle, store)
            tally.stopped["had space enough"] += 1
        except StoreWriteError as error:
            tally.stopped["stopped while converting"] += 1
            wrong += _unclear_text(str(error), trouble, store)
            if _has_run(store):
                wrong.append("there is a run, and it was not converted")
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        trouble.mend()
        if not _has_run(store):
            checkpoint.convert(self.warm.oracle, store)
        found = self.oracle.look(store)
        wrong += found.wrong
        if found.n_rows != self.oracle.n_rows:
            wrong.append(f"converted, {found.n_rows} draws are recorded")
        tally.broken += [f"{label}: {line}" for line in wrong]
        _remove(store)

    def _unclear(self, session: Session, trouble: Trouble, store: Path) -> list[str]:
        """Return what is not as it should be in how a run ended."""
        outcome = session.outcome
        if "unequal" in outcome:  # it ended before there was trouble
            return [f"the result differs in {line}" for line in outcome["unequal"]]
        if "StoreWriteError" not in outcome.get("kinds", []):
            return [f"it ended with {outcome or session.exit_code}, expected StoreWriteError"]
        return _unclear_text(outcome["text"], trouble, store)

    def _inexact(self, session: Session, store: Path) -> list[str]:
        """Return what is wrong with a run that was finished."""
        outcome = session.outcome
        if "unequal" not in outcome:
            return [f"it does not go on: {outcome or session.exit_code}"]
        found = self.oracle.look(store)
        lines = [f"the result differs in {line}" for line in outcome["unequal"]] + found.wrong
        if found.n_rows != self.oracle.n_rows:
            lines.append(f"finished, {found.n_rows} draws are recorded")
        return lines

    def _where(self, session: Session, n_rows: list[int], store: Path) -> str:
        if "unequal" in session.outcome:
            warned = " ".join(session.outcome["warnings"])
            return f"went through{', not compacted' if 'be compacted' in warned else ''}"
        if not _has_run(store):
            return "stopped while the run was created"
        if not any(n_rows):
            return "stopped before the first commit"
        return "stopped at the end" if n_rows == self.oracle.n_rows else "stopped while sampling"


def _did_not_end(session: Session) -> list[str]:
    """Return that a process or its workers are still there, after some time; end them."""
    wrong = []
    if not session.wait(PATIENCE):
        wrong.append(f"it does not end within {PATIENCE:.0f} s")
    elif session.wait_for_workers(10.0):
        wrong.append("workers are left")
    session.end()
    return wrong


def _unclear_text(text: str, trouble: Trouble, store: Path) -> list[str]:
    """Return what a message lacks: where, why, what to do."""
    lacks = []
    if store.name not in text:
        lacks.append("the store")
    if not any(reason in text for reason in trouble.reasons):
        lacks.append(f"the reason ({' or '.join(trouble.reasons)})")
    if "run the same command again" not in text:
        lacks.append("the way out")
    return [f"the message lacks {item}: {text}" for item in lacks]


def _unreadable_for_zarr(store: Path) -> list[str]:
    """Return why zarr does not read a store; of a zip file through our store, a directory alone."""
    if not _has_run(store):
        return []
    try:
        place = store if store.is_dir() else ZipStore(store, read_only=True)
        group = zarr.open_group(place, mode="r")
        for _, array in group.members(max_depth=None):
            if isinstance(array, zarr.Array):
                array[...]
    except Exception as error:
        return [f"zarr: {type(error).__name__}: {error}"]
    return []


def _has_run(store: Path) -> bool:
    try:
        checkpoint.open(store)
    except RunNotFoundError:
        return False
    except CheckpointError:  # which the oracle reports
        return True
    return True


def _remove(store: Path) -> None:
    shutil.rmtree(store, ignore_errors=True)
    store.unlink(missing_ok=True)


def _stores(n: int, root: Path) -> list[Path]:
    """Return stores to sample into, directories and zip files in turn."""
    return [root / f"fit-{i}{'.zip' if i % 2 else '.zarr'}" for i in range(n)]


def full(bench: Bench, kind: str, n: int) -> list[Row]:
    """Let a file system run full at `n` random points of runs, and of conversions."""
    full_disk = ("No space left on device",)
    tally, converting = Tally(), Tally()
    with mounted(kind, bench.folder) as system:
        needs = {store.suffix: _need(bench, system, store) for store in _stores(2, system.root)}
        for i, store in enumerate(_stores(n, system.root)):
            share = bench.rng.uniform(0, bench.rng.choice([0.2, 1.1]))
            trouble = Trouble(f"{kind} full", full_disk, system.free)
            system.leave(int(share * needs[store.suffix]))
            if i % 3 == 2:
                bench.convert(converting, trouble, store)
            else:
                bench.try_one(tally, trouble, store)
            system.empty()
    tested = (
        f"{tally.n_tried} runs and {converting.n_tried} conversions into directories and zip files "
        f"on a small {kind} that was filled at random, on 1 and 2 cores: {tally}; conversions: "
        f"{converting}. {tally.n_rows:,} rows compared after the errors, and all results"
    )
    return [
        Row(
            f"the disk is full ({kind})",
            SURVIVES,
            tested,
            tally.n_tried + converting.n_tried,
            tally.broken + converting.broken,
        )
    ]


def _need(bench: Bench, system: FileSystem, store: Path) -> int:
    """Return the bytes that a whole run takes at most."""
    before = least = system.n_free
    session, _ = bench.sample(store)
    while not session.has_ended:
        least = min(least, system.n_free)
        time.sleep(0.01)
    session.end()
    _remove(store)
    return before - least


def turned_read_only(bench: Bench, n: int) -> list[Row]:
    """Let the kernel find an error in an ext4 in the middle of runs: it becomes read-only."""
    tally = Tally()
    with mounted("ext4", bench.folder) as system:
        assert isinstance(system, Ext4)

        def begin(session: Session, diary: Diary) -> None:
            _wait_for_instant(bench, session, diary)
            system.fail()

        for store in _stores(n, system.root):
            # A sync that fails says so in other words.
            reasons = ("Read-only file system", "Input/output error", "Structure needs cleaning")
            bench.try_one(tally, Trouble("read-only", reasons, system.mend, begin), store)
            system.empty()
    tested = (
        f"{tally.n_tried} runs on an ext4 in which the kernel was made to find an error at a "
        f"random instant: {tally}. Then unmounted, mended with e2fsck, mounted and gone on "
        f"with. {tally.n_rows:,} rows compared before"
    )
    return [tally.row("the file system finds an error and turns read-only (ext4)", tested)]


def without_permission(bench: Bench, n: int) -> list[Row]:
    """Take away the permission to write in the middle of runs."""
    tally = Tally()
    root = bench.folder / "permissions"
    root.mkdir()
    for store in _stores(n, root):
        place = root / store.stem
        place.mkdir()

        def allow(mode: int, place: Path = place) -> None:
            for folder, _, names in os.walk(place):
                os.chmod(folder, 0o555 | mode)
                for name in names:
                    os.chmod(Path(folder, name), 0o444 | mode)

        def begin(session: Session, diary: Diary, allow: Any = allow) -> None:
            _wait_for_instant(bench, session, diary)
            allow(0)

        trouble = Trouble(
            "permissions",
            ("Permission denied",),
            lambda allow=allow: allow(0o200),
            begin,
            {"obeys": True},
        )
        bench.try_one(tally, trouble, place / store.name)
    tested = (
        f"{tally.n_tried} runs in which all files and folders lost it at a random instant: "
        f"{tally} (a zip file is open already, and can be written on). {tally.n_rows:,} rows "
        "compared before going on"
    )
    return [tally.row("the permission to write is taken away", tested)]


def too_large(bench: Bench, n: int) -> list[Row]:
    """Limit the size of a file: what a quota is to a zip file."""
    tally = Tally()
    root = bench.folder / "large"
    root.mkdir()
    for store in _stores(n, root):
        # Up to the largest chunk of a directory, which is larger than its root document.
        n_bytes = bench.rng.choice([bench.rng.randrange(200, 30_000), ROOT_FITS])
        if store.suffix == ".zip":
            n_bytes = bench.rng.randrange(200, 800_000)
        trouble = Trouble(
            "file size",
            ("File too large",),
            lambda: None,
            start={"file_nbytes": n_bytes},
        )
        bench.try_one(tally, trouble, store)
    tested = (
        f"{tally.n_tried} runs with a random limit: {tally}. {tally.n_rows:,} rows compared "
        "before going on. Quotas of users and groups were not tried"
    )
    return [tally.row("a file may not grow (the limit of a process, RLIMIT_FSIZE)", tested)]


def _wait_for_instant(bench: Bench, session: Session, diary: Diary) -> None:
    """Wait until the run draws, and a random while."""
    deadline = time.monotonic() + 30
    while not (diary.has_begun() or session.has_ended) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(bench.rng.uniform(0.0, 1.0))


ON_MOUNTS: dict[str, Callable[[Bench, int], list[Row]]] = {
    "the disk is full (tmpfs)": lambda bench, n: full(bench, "tmpfs", n),
    "the disk is full (ext4)": lambda bench, n: full(bench, "ext4", n),
    "the file system finds an error and turns read-only (ext4)": lambda bench, n: turned_read_only(
        bench, n - 1
    ),
}


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Fill disks, break them, take away permissions; where mounts are impossible, say so."""
    n = effort.of(3, 40)
    with Bench(folder, seed) as bench:
        rows = [*without_permission(bench, n - 1), *too_large(bench, n - 1)]
        if os.geteuid() == 0:
            return [*_with_mounts(bench, n), *rows]
    try:
        command = in_namespace()
    except CannotMountError as error:
        return [*(_not_run(fails, error) for fails in ON_MOUNTS), *rows]
    inside = folder / "namespace"
    inside.mkdir()
    code = (
        "import sys; from torture.full_disk import main; "
        "main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
    )
    done = subprocess.run(
        [*command, sys.executable, "-W", "ignore", "-c", code, str(n), str(seed), str(inside)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [*(Row(**row) for row in json.loads(done.stdout.splitlines()[-1])), *rows]


def main(n: int, seed: int, folder: str) -> None:
    """Run what needs mounts, in a process that may mount, and print its rows."""
    with Bench(Path(folder), seed) as bench:
        rows = _with_mounts(bench, n)
    sys.stdout.write(json.dumps([asdict(row) for row in rows]) + "\n")


def _with_mounts(bench: Bench, n: int) -> list[Row]:
    rows = []
    for fails, tried in ON_MOUNTS.items():
        try:
            rows += tried(bench, n)
        except CannotMountError as error:
            rows.append(_not_run(fails, error))
    return rows


def _not_run(fails: str, error: Exception) -> Row:
    return Row(fails, SURVIVES, f"not run: {error}", 0)
