"""Runs whose every system call is known: begun, finished, extended, gone on with, converted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoint
from torture.disk import Disk
from torture.recorder import Operation, recording
from torture.scene import Promised, Scene, lay_out, marking

__all__ = ["KINDS", "Story", "after_a_kill", "stories"]

KINDS = {".zarr": "directory", ".zip": "zip"}


@dataclass
class Story:
    """What was done to a disk.

    Attributes
    ----------
    name : str
    scene : Scene
    store : str
        Where the run is, below the root.
    operations : list of Operation
    start : int
        The first operation that this story is about; those before are known from another.
    """

    name: str
    scene: Scene
    store: str
    operations: list[Operation]
    start: int = 0
    _disk: Disk = field(default_factory=Disk)
    _promised: Promised = field(default_factory=Promised)
    _at: int = 0

    def after(self, n: int) -> tuple[Disk, Promised]:
        """Return the disk after so many operations, and what was promised by then."""
        if n < self._at:
            self._disk, self._promised, self._at = Disk(), Promised(), 0
        for operation in self.operations[self._at : n]:
            self._disk.apply(operation)
            if operation.kind == "mark":
                self._promised.take(operation.mark)
        self._at = n
        return self._disk, self._promised

    def points(self) -> Iterator[int]:
        """Return after how many operations the story can be cut off."""
        yield from range(self.start, len(self.operations) + 1)

    def intervals(self) -> Iterator[range]:
        """Return those numbers in groups, each up to where what is pending is synced.

        What may be left after any call of a group may also be left after its last, or that of the
        group before: calls that sync add nothing, the others only add.
        """
        first = self.start
        for n in self.points():
            is_last = n == len(self.operations)
            if is_last or (self._syncs(n) and not (n > self.start and self._syncs(n - 1))):
                yield range(first, n + 1)
                first = n + 1

    def _syncs(self, n: int) -> bool:
        return self.operations[n].kind.startswith("sync")


def _record(root: Path, act: Any) -> list[Operation]:
    with recording(root) as recorder, marking(recorder):
        act()
    return recorder.operations


def stories(folder: Path, kind: str) -> Iterator[Story]:
    """Return what happens to runs of one kind of store."""
    name = f"fit{kind}"
    # A commit for each draw, and commits by the rehearsals and seals alone.
    for chains, commit_interval in ((1, 0), (2, 1000)):
        oracle = folder / f"oracle-{chains}"
        scene = Scene(oracle, chains=chains, commit_interval=commit_interval)
        root = _empty(folder / f"new-{chains}")
        operations = _record(root, lambda at=root / name, scene=scene: scene.sample(at))
        yield Story(f"a new run of {chains}", scene, name, operations)

    scene = Scene(folder / "oracle-extended", draws=13)
    root = _empty(folder / "extended")
    begun = _record(root, lambda: scene.sample(root / name, draws=8))
    more = _record(root, lambda: scene.sample(root / name))
    yield Story("extending", scene, name, begun + more, len(begun))

    # So many entries that they are merged.
    arguments = {"draws": 70, "tune": 3, "chains": 1, "draws_per_chunk": 80, "commit_interval": 0}
    scene = Scene(folder / "oracle-merged", **arguments)
    root = _empty(folder / "merged")
    operations = _record(root, lambda: scene.sample(root / name))
    first = next(i for i, one in enumerate(operations) if one.kind == "mark")
    yield Story("merging", scene, name, operations, first)

    scene = Scene(folder / "oracle-converted")
    root = _empty(folder / "converted")
    scene.sample(folder / "source.zarr")

    def convert() -> None:
        checkpoint.convert(folder / "source.zarr", root / name, draws_per_chunk=3)

    yield Story("converting", scene, name, _record(root, convert))


def after_a_kill(story: Story, n: int, folder: Path) -> Story:
    """Return the story of going on where a process was killed after `n` operations.

    What it had not synced is still not synced.
    """
    disk, _ = story.after(n)
    root = folder / "again"
    lay_out(root, disk.now())
    before = story.operations[:n]
    after = _record(root, lambda: story.scene.finish(root / story.store))
    name = f"{story.name}, killed after {n} calls"
    return Story(name, story.scene, story.store, before + after, n)


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
