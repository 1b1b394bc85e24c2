"""A disk as POSIX promises it and no better: what was not synced may be there, or not, or torn.

It follows recorded operations and knows, for every file and folder, what is certain to be there
after the power fails and what is pending. `crash` draws one of the many things that may be left.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torture.recorder import Operation

Tree = dict[str, bytes | None]
"""What is on a disk: the content of each file by path, None for a folder."""


@dataclass
class _File:
    """A file, by what was last synced and what was written since."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes as (offset, bytes); cuts as (length, None)."""

    def sync(self) -> None:
        self.durable, self.pending = self.now(), []

    def now(self) -> bytes:
        return _applied(self.durable, self.pending)

    def crash(self, rng: random.Random, luck: float) -> bytes:
        """Return what is left: each pending write kept, dropped, torn, or garbage."""
        if not self.pending:
            return self.durable
        left: list[tuple[int, bytes | None]] = []
        for offset, data in self.pending:
            is_kept = rng.random() < luck
            fate = "kept" if is_kept else rng.choice(("dropped", "torn", "garbage"))
            if fate == "dropped":
                continue
            if data is None or fate == "kept":
                left.append((offset, data))
                continue
            n = rng.randrange(len(data) + 1)
            if fate == "torn":
                left.append((offset, data[:n]))
            else:  # the length is there, the bytes are not
                rest = len(data) - n
                filler = rng.choice((bytes(rest), rng.randbytes(rest)))
                left.append((offset, data[:n] + filler))
        return _applied(self.durable, left)


@dataclass
class _Folder:
    """A folder, by the names that were last synced and what was done to names since."""

    durable: dict[str, Any] = field(default_factory=dict)
    pending: list[tuple[str | None, str | None, Any]] = field(default_factory=list)
    """Each change of names as (name that goes, name that comes, node that it is of)."""

    def sync(self) -> None:
        self.durable, self.pending = self.now(), []

    def now(self) -> dict[str, Any]:
        return _renamed(self.durable, self.pending)

    def crash(self, rng: random.Random, luck: float) -> dict[str, Any]:
        """Return the names that are left: each pending change kept or undone."""
        return _renamed(self.durable, [one for one in self.pending if rng.random() < luck])


def _applied(data: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    if not changes:
        return data
    content = bytearray(data)
    for offset, written in changes:
        stop = offset + len(written or b"")
        if written is None:
            del content[offset:]
        if len(content) < stop:
            content.extend(bytes(stop - len(content)))
        if written is not None:
            content[offset:stop] = written
    return bytes(content)


def _renamed(names: dict[str, Any], changes: list[tuple[str | None, str | None, Any]]) -> Any:
    if not changes:
        return names
    left = dict(names)
    for gone, come, node in changes:
        if gone is not None:
            left.pop(gone, None)
        if come is not None:
            left[come] = node
    return left


class Disk:
    """The files below one folder, which is durable itself and empty at first."""

    def __init__(self) -> None:
        self._root = _Folder()
        self._settled: dict[int, Tree] | None = None
        """Below each folder in which nothing is pending, what is there; until the next change."""

    def apply(self, operation: Operation) -> None:
        """Follow one system call."""
        self._settled = None
        path, target = operation.path, operation.target
        match operation.kind:
            case "make_file":
                self._change(path, come=_File())
            case "make_folder":
                self._change(path, come=_Folder())
            case "write":
                self._node(path).pending.append((operation.offset, operation.data))
            case "cut":
                self._node(path).pending.append((operation.offset, None))
            case "rename":
                folder, name = self._place(path)
                other, new = self._place(target)
                assert folder is other, "a rename between folders is not modelled"
                folder.pending.append((name, new, folder.now()[name]))
            case "link":
                self._change(target, come=self._node(path))
            case "unlink" | "remove_folder":
                folder, name = self._place(path)
                folder.pending.append((name, None, None))
            case "sync" | "sync_folder":
                self._node(path).sync()
            case "sync_all":
                for node in self._nodes(self._root):
                    node.sync()
            case "mark":
                pass
            case kind:
                raise AssertionError(kind)

    def half_way(self, operation: Operation) -> Tree:
        """Return what a process that is started now sees if one died in the midst of a write."""
        pending = self._node(operation.path).pending
        pending.append((operation.offset, operation.data[: len(operation.data) // 2]))
        tree = self.now()
        pending.pop()
        return tree

    def now(self) -> Tree:
        """Return what a process that is started now sees: all that was written, synced or not."""
        return dict(_walk(self._root, _File.now, _Folder.now))

    def crash(self, rng: random.Random) -> Tree:
        """Return what may be left when the power fails now.

        How much of what is pending is kept differs: little, half, nearly all. Where hundreds of
        changes are pending, it is the last that leaves a run in which a single one is missing.
        """
        if self._settled is None:
            self._settled = {}
            self._settle(self._root, "")
        luck = rng.choice((0.05, 0.25, 0.5, 0.95, 0.99))
        left: dict[int, bytes] = {}  # a file with two names is left in one way

        def names(folder: _Folder) -> dict[str, Any]:
            return folder.crash(rng, luck)

        def content(file: _File) -> bytes:
            if id(file) not in left:
                left[id(file)] = file.crash(rng, luck)
            return left[id(file)]

        return dict(_walk(self._root, content, names, settled=self._settled))

    def _settle(self, folder: _Folder, prefix: str) -> bool:
        """Note what is in folders that a crash cannot change; return whether this is one."""
        assert self._settled is not None
        is_settled = not folder.pending
        for name, node in folder.now().items():
            if isinstance(node, _Folder):
                is_settled &= self._settle(node, f"{prefix}{name}/")
            else:
                is_settled &= not node.pending
        if is_settled:
            self._settled[id(folder)] = dict(_walk(folder, _File.now, _Folder.now, prefix))
        return is_settled

    def _nodes(self, folder: _Folder) -> Iterator[Any]:
        yield folder
        for node in folder.now().values():
            if isinstance(node, _Folder):
                yield from self._nodes(node)
            else:
                yield node

    def _change(self, path: str, come: Any) -> None:
        folder, name = self._place(path)
        folder.pending.append((None, name, come))

    def _place(self, path: str) -> tuple[_Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._node(parent), name

    def _node(self, path: str) -> Any:
        node: Any = self._root
        for name in path.split("/"):
            if name not in ("", "."):
                node = node.now()[name]
        return node


def _walk(
    folder: _Folder, content: Any, names: Any, prefix: str = "", settled: Any = None
) -> Iterator[Any]:
    if settled and id(folder) in settled:
        yield from settled[id(folder)].items()
        return
    for name, node in names(folder).items():
        path = f"{prefix}{name}"
        if isinstance(node, _Folder):
            yield path, None
            yield from _walk(node, content, names, f"{path}/", settled)
        else:
            yield path, content(node)
