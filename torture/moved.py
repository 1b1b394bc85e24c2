"""The ground moves: a store is moved, removed, emptied or replaced while a run is sampled into it.

Each commit, seal and last write of a run is an instant. At some of them, just before the call and
between its look at the path and what it writes, the store goes; then what is at the path, and what
the run left where it went, is compared.
"""

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from checkpoint import errors
from checkpoint.stores import DirectoryStore, ZipStore
from torture.report import Effort, Row
from torture.scene import Promised, Scene

__all__ = ["CHANGES", "trial"]

Change = Callable[[Path, Path], None]
"""Does something to the store at a path; a run of another seed is kept at the other path."""

KINDS: dict[str, type[Any]] = {".zarr": DirectoryStore, ".zip": ZipStore}


def away(store: Path) -> Path:
    """Return where a store is moved to."""
    return store.with_name(f"away{store.suffix}")


def move(store: Path, other: Path) -> None:
    os.rename(store, away(store))


def remove(store: Path, other: Path) -> None:
    (shutil.rmtree if store.is_dir() else os.unlink)(store)


def replace(store: Path, other: Path) -> None:
    move(store, other)
    (shutil.copytree if other.is_dir() else shutil.copy)(other, store)


def empty(store: Path, other: Path) -> None:
    """Remove what is in a directory, not the directory; of a file, the file."""
    if not store.is_dir():
        remove(store, other)
        return
    for path in store.iterdir():
        (shutil.rmtree if path.is_dir() else os.unlink)(path)


CHANGES: tuple[Change, ...] = (move, remove, replace, empty)


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Change the ground at instants of runs in directories and zip files."""
    scene = Scene(folder / "oracle")
    rng = random.Random(seed)
    rows = []
    for kind, store_class in KINDS.items():
        other = folder / f"other{kind}"
        Scene(folder / f"other-oracle{kind}", random_seed=5).sample(other)
        n_instants = _count_instants(scene, store_class, folder / f"count{kind}")
        cases = [
            (change, instant, is_late)
            for change, instant, is_late in itertools.product(
                CHANGES, range(1, n_instants + 1), (False, True)
            )
            # A directory that is emptied is still the run's own: what is under way lands in it.
            if not (change is empty and is_late)
        ]
        n_cases = len(cases)
        cases = rng.sample(cases, min(len(cases), effort.of(12, 400)))
        broken = []
        for i, (change, instant, is_late) in enumerate(cases):
            store = folder / f"{i}{kind}" / f"fit{kind}"
            store.parent.mkdir()
            for line in try_one(scene, store, other, change, instant, is_late):
                when = "after its look, " if is_late else ""
                broken.append(f"{change.__name__} at write {instant}, {when}{kind}: {line}")
            shutil.rmtree(store.parent)
        rows.append(_row(kind, len(cases), n_cases, broken))
    return rows


def try_one(
    scene: Scene, store: Path, other: Path, change: Change, instant: int, is_late: bool
) -> list[str]:
    """Change the ground of a run at an instant; return what is wrong then."""
    store_class = KINDS[store.suffix]
    seen: dict[str, Any] = {}

    def go() -> None:
        change(store, other)
        seen["before"] = contents(store)

    with _at(store_class, instant, go, is_late):
        try:
            scene.sample(store)
            ending = "it ended as if nothing had happened"
        except errors.StoreMovedError:
            ending = ""
        except Exception as error:
            ending = f"{type(error).__name__}: {error}"
    return [*_wrong(scene, store, change, seen["before"], ending)]


def _wrong(scene: Scene, store: Path, change: Change, before: Any, ending: str) -> Iterator[str]:
    if ending:
        yield ending
    if contents(store) != before:
        yield "something was written at the path"
    if change in (move, replace):
        yield from scene.look(away(store), Promised()).wrong
        yield from scene.finish_as_user(away(store))


@contextlib.contextmanager
def _at(
    store_class: type[Any], instant: int, go: Callable[[], None], is_late: bool
) -> Iterator[None]:
    """Do something once, at the n-th change of a store: before its look at the path, or after."""
    look = store_class.check_held
    count = itertools.count(1)

    def check(self: Any) -> None:
        is_here = self._lock is not None and next(count) == instant
        if is_here and not is_late:
            go()
        look(self)
        if is_here and is_late:
            go()

    with patch.object(store_class, "check_held", check):
        yield


def _count_instants(scene: Scene, store_class: type[Any], store: Path) -> int:
    looks = []
    look = store_class.check_held

    def check(self: Any) -> None:
        if self._lock is not None:
            looks.append(None)
        look(self)

    with patch.object(store_class, "check_held", check):
        scene.sample(store)
    return len(looks)


def contents(store: Path) -> Any:
    """Return what is at a path, save what tells who writes."""
    if store.is_file():
        return store.read_bytes()
    if not store.exists():
        return None
    return {
        path.relative_to(store): path.read_bytes() if path.is_file() else None
        for path in store.rglob("*")
        if path.name not in (".lock", ".holder")
    }


def _row(kind: str, n_tried: int, n_cases: int, broken: list[str]) -> Row:
    return Row(
        fails=f"the store is moved, removed, emptied or replaced under a live run ({kind})",
        survives="what is at the path then; what was committed, where it went",
        tested=f"{n_tried} of {n_cases} ways: at each write of a run, before and after the "
        "writer's look at its path; the run must stop and say so, the path be left as it was, and "
        "the store that was moved be continued to the same draws",
        n_tried=n_tried,
        broken=broken,
    )
