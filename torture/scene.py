"""A small run under test: sampled for real, gone on with from whatever is left, and compared.

The oracle is a run of the same model, arguments and seed that nothing happens to.
"""

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pymc as pm

import checkpoint
from checkpoint import sampling
from checkpoint.errors import RunNotFoundError
from checkpoint.hierarchy import nodes, read_root, write_root
from checkpoint.hierarchy.unfinished import is_marked
from checkpoint.reading.run import RecordedRun, open_run
from checkpoint.recording.writer import ChainWriter
from checkpoint.runs import describe
from checkpoint.runs.active import start_run, take
from checkpoint.runs.deadlines import Deadline
from checkpoint.runs.driving import draw_missing
from checkpoint.stores import as_store
from compare import unequal
from settings import SMALL
from torture.disk import Tree
from torture.oracle import unequal_rows

__all__ = ["Left", "Promised", "Scene", "lay_out", "marking"]


@dataclass
class Promised:
    """What was said to be durable, up to some moment."""

    draws: int = 0
    """Draws after warm-up that the run has room for; 0 if there is no run yet."""
    n_rows: dict[int, int] = field(default_factory=dict)
    """Recorded draws by chain."""

    def take(self, mark: Any) -> None:
        kind, value = mark
        if kind == "room":
            self.draws = value
        else:
            chain, n_rows = value
            self.n_rows[chain] = max(n_rows, self.n_rows.get(chain, 0))


@contextlib.contextmanager
def marking(recorder: Any) -> Iterator[None]:
    """Mark in a recording what the package promises, when the call that promises it returns."""

    def after(method: Any, mark: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            returned = method(*arguments, **named)
            recorder.mark(mark(*arguments))
            return returned

        return call

    def rows(writer: Any) -> Any:
        return "rows", (writer.chain, writer.n_rows)

    def room(store: Any, manifest: Any, *rest: Any) -> Any:
        return "room", manifest.draws

    with (
        patch.object(ChainWriter, "commit", after(ChainWriter.commit, rows)),
        patch.object(ChainWriter, "seal", after(ChainWriter.seal, rows)),
        patch.object(write_root, "publish", after(write_root.publish, room)),
    ):
        yield


@dataclass(frozen=True)
class Left:
    """What a store shows after something happened to it.

    Attributes
    ----------
    n_rows : list of int
        Recorded draws of each chain; empty if there is no run.
    wrong : list of str
        What breaks a promise.
    """

    n_rows: list[int]
    wrong: list[str]


class Scene:
    """A run of few draws of a small model.

    Parameters
    ----------
    folder : Path
        For the oracle.
    **arguments
        Of `checkpoint.sample`, in place of the usual ones.
    """

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "draws": 8,
        "tune": 6,
        "chains": 2,
        "cores": 1,
        "random_seed": 4,
        "draws_per_chunk": 5,
        "commit_interval": 0,
        "discard_tuned_samples": False,
        **SMALL,
    }

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.arguments = {**self.ARGUMENTS, **arguments}
        with pm.Model() as self.model:
            pm.HalfNormal("s")
        self._prepared: dict[tuple[int, int], Any] = {}
        path = folder / "oracle.zarr"
        self.whole = self.sample(path)
        records = open_run(as_store(path))._records
        self._rows = [record.rows(0, record.n_rows) for record in records]

    @property
    def total(self) -> int:
        return int(self.arguments["tune"] + self.arguments["draws"])

    def sample(self, store: Any, **arguments: Any) -> Any:
        """Sample into a store, or go on, as a user does; `finish` can go on with that run."""

        def keep(active: Any, options: Any, deadline: Deadline) -> Any:
            self._prepared[active.manifest.run_id, active.manifest.draws] = active, options
            return draw_missing(active, options, deadline)

        with (
            self.model,
            patch.object(sampling, "draw_missing", keep),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            step = pm.Metropolis()
            return checkpoint.sample(store, step=step, **{**self.arguments, **arguments})

    def look(self, store: Any, promised: Promised) -> Left:
        """Read all that a store has recorded, and hold it against the oracle and the promises."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = open_run(as_store(store))
                return Left(found.draw_idx.tolist(), [*self._wrong(found, promised)])
        except RunNotFoundError:
            return Left([], ["there is no run"] if promised.draws else [])
        except Exception as error:
            return Left([], [f"cannot be opened: {type(error).__name__}: {error}"])

    def _wrong(self, found: RecordedRun, promised: Promised) -> Iterator[str]:
        if found.draws < promised.draws:
            yield f"room for {found.draws} draws, promised {promised.draws}"
        yield from _shown_too_much(found)
        for record in found._records:
            at_least = promised.n_rows.get(record.chain, 0)
            if record.n_rows < at_least:
                yield f"chain {record.chain}: {record.n_rows} rows, promised {at_least}"
            rows = record.rows(0, record.n_rows)
            yield from unequal_rows(record.chain, rows, self._rows[record.chain])

    def finish(self, store: Any) -> list[str]:
        """Begin or go on with a run to its end, set up as before; return what is wrong."""
        place = as_store(store)
        manifest = read_root.read_manifest(place)
        if manifest is None:
            active, options = [*self._prepared.values()][-1]
            created = (active.manifest, active.preparation, active.schemas, active.draws)
            active = start_run(place, *created)
        elif (found := self._prepared.get((manifest.run_id, self.arguments["draws"]))) is None:
            return self.finish_as_user(store)
        else:
            active, options = found
            take(place)
            active = replace(active, store=place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if manifest is not None and manifest.draws < active.draws:
                draws, parts = active.draws, (active.preparation, active.schemas)
                longer = describe.resize_run(place, manifest, *parts, draws)
                active = replace(active, manifest=longer)
            draw_missing(active, options, Deadline())
        return self._unfinished(store)

    def finish_as_user(self, store: Any) -> list[str]:
        """Run the same command again; return in what the result differs from the oracle."""
        kept = dict(self._prepared)
        result = self.sample(store)
        self._prepared = kept
        return [*unequal(result, self.whole), *self._unfinished(store)]

    def _unfinished(self, store: Any) -> list[str]:
        left = self.look(store, Promised(self.arguments["draws"]))
        if is_marked(as_store(store)):
            left.wrong.append("Zarr readers are told that it is unfinished")
        if left.n_rows != [self.total] * self.arguments["chains"]:
            return [*left.wrong, f"rows at the end: {left.n_rows}"]
        return left.wrong


def _shown_too_much(found: RecordedRun) -> Iterator[str]:
    """Return where Zarr readers are shown draws that not every chain has."""
    n_rows = [record.n_rows for record in found._records]
    for path in ("posterior/s", "warmup_posterior/s", "posterior/draw"):
        most = found._manifest.length(path, n_rows)
        shape = nodes.array_spec(found._store, found._manifest, path).shape
        if shape[-1] > most:
            yield f"{path} shows {shape[-1]} draws, and every chain has {most}"


def lay_out(folder: Path, tree: Tree, before: Tree | None = None) -> None:
    """Make a folder hold what a disk was left with; `before` is what it holds, if that is known."""
    if before is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        before = {}
    for path in sorted(before.keys() - tree.keys(), reverse=True):
        place = folder / path
        if before[path] is None:
            place.rmdir()
        else:
            place.unlink()
    for path, content in tree.items():
        if path in before and (content is before[path] or content == before[path]):
            continue
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
