"""What a store remembers of its run, and what makes two runs the same run."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from checkpoint import layout
from checkpoint.arrays import ArraySpec, Compressor, default_compressor
from checkpoint.commit_log import encode_columns
from checkpoint.errors import DamagedStoreError, FormatVersionError
from checkpoint.manifest_check import check
from checkpoint.rows import Column

__all__ = ["Manifest", "differences", "environment", "environment_changes"]

_LIBRARIES = ("pymc", "pytensor", "numpy", "scipy", "numba", "pymc-checkpoint")


@dataclass(frozen=True)
class Manifest:
    """All that is fixed for a run; kept as an attribute of the root group.

    Attributes
    ----------
    run_id : int
        Drawn when the run was created; its log entries carry it.
    zarr_format : int
    chains, tune, draws : int
    warmup_chunk, chunk : int
        Draws in a chunk, in the two phases.
    compressor : dict or None
        The compressor as in a format 3 metadata document.
    columns : tuple of Column
        The columns of a row.
    schemas : tuple of dict
        How the state of each step method lies in the store.
    point_paths : mapping of str to str
        Column that holds each value variable.
    variables : tuple of str
        Recorded variables, in PyMC's order.
    model, settings : mapping of str to str
        What tells this run from others, by what it describes.
    environment : mapping of str to str
        Versions, processor and threads.
    seed : str
        The seed the run began with, for people; what counts is `rngs`.
    rngs : tuple of dict
        The generator of each chain before its first draw.
    start_logp : tuple of str
        Log-probability at the start of each chain; empty where a stat has it.
    sequential : bool
        Which of PyMC's ways to start a chain the run began with.
    fastmath : bool
        Whether the model was compiled with fastmath.
    n_imported : tuple of int
        For each chain the number of rows at its start that came without the state of the sampler;
        empty if there are none.
    origin : str
        Where imported rows came from and how exactly they are continued, for people.
    documents : mapping of str to int
        Checksum of what counts in each metadata document below the root, by its key; empty in
        stores that have none.
    """

    run_id: int
    zarr_format: int
    chains: int
    tune: int
    draws: int
    warmup_chunk: int
    chunk: int
    compressor: Mapping[str, Any] | None
    columns: tuple[Column, ...]
    schemas: tuple[Mapping[str, Any], ...]
    point_paths: Mapping[str, str]
    variables: tuple[str, ...]
    model: Mapping[str, str]
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    seed: str
    rngs: tuple[Mapping[str, str], ...]
    start_logp: tuple[str, ...]
    sequential: bool
    fastmath: bool
    n_imported: tuple[int, ...] = ()
    origin: str = ""
    documents: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Draws of a chain, warm-up included."""
        return self.tune + self.draws

    def with_draws(self, draws: int) -> "Manifest":
        return replace(self, draws=draws)

    def first_state(self, chain: int) -> int:
        """Return the first row of a chain that has the state of the sampler after it."""
        return self.n_imported[chain] if self.n_imported else 0

    @cached_property
    def codec(self) -> Compressor:
        return Compressor.from_json(self.compressor)

    @cached_property
    def column_list(self) -> bytes:
        """The list of columns that every log entry begins with."""
        return encode_columns(self.columns)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Which dimension of an array grows when the run is extended, by path of the array."""
        axes = {column.path: 1 for column in self.columns}
        groups = {path.partition("/")[0] for path in axes} - {layout.STATE}
        return axes | {f"{group}/draw": 0 for group in groups}

    def is_warmup(self, draw_idx: int) -> bool:
        """Return whether a draw, counted with warm-up, belongs to it."""
        return draw_idx < self.tune

    def chunk_of(self, draw_idx: int) -> tuple[bool, int, int, int]:
        """Return where a draw lies: is it warm-up, which chunk, its first draw, its capacity.

        The first draw is counted with warm-up. The last chunk of warm-up ends with it, so
        that every chunk belongs to one phase.
        """
        warmup = self.is_warmup(draw_idx)
        start, size = (0, self.warmup_chunk) if warmup else (self.tune, self.chunk)
        chunk_idx = (draw_idx - start) // size
        first, stop = self.chunk_range(warmup, chunk_idx)
        return warmup, chunk_idx, first, stop - first

    def chunk_range(self, warmup: bool, chunk_idx: int) -> tuple[int, int]:
        """Return the draws that a chunk has room for, as (first, stop), counted with warm-up."""
        if warmup:
            first = chunk_idx * self.warmup_chunk
            return first, min(first + self.warmup_chunk, self.tune)
        first = self.tune + chunk_idx * self.chunk
        return first, first + self.chunk

    def spec(
        self, column: Column, warmup: bool, dims: Sequence[str] = (), attributes: Any = None
    ) -> ArraySpec:
        """Return the array of a column in one phase."""
        n_draws, size = (self.tune, self.warmup_chunk) if warmup else (self.draws, self.chunk)
        if column.per_commit:
            n_draws, size = -(-n_draws // size), 1
        path = layout.path_of_phase(column.path, warmup)
        name = path.rsplit("/", 1)[-1]
        dims = tuple(dims) or tuple(f"{name}_dim_{i}" for i in range(len(column.shape)))
        return ArraySpec(
            path=path,
            dtype=column.dtype,
            shape=(self.chains, n_draws, *column.shape),
            chunk_shape=(1, size, *(max(1, n) for n in column.shape)),
            dimension_names=("chain", "chunk" if column.per_commit else "draw", *dims),
            zarr_format=self.zarr_format,
            compressor=self.codec,
            attributes=attributes or {},
        )

    def chunk_index(self, column: Column, chain: int, chunk_idx: int) -> tuple[int, ...]:
        """Return where in the chunk grid of a column some rows of a chain lie."""
        return (chain, chunk_idx, *(0 for _ in column.shape))

    def chunk_keys(self, chain: int, chunk_idx: int, warmup: bool) -> list[str]:
        """Return the keys of the chunks that some rows of a chain lie in, one for each column."""
        return [
            self.spec(column, warmup).chunk_key(*self.chunk_index(column, chain, chunk_idx))
            for column in self.columns
        ]

    def chunk_ranges(self, n_rows: int) -> Iterator[tuple[int, int]]:
        """Return the rows of a chain chunk by chunk, as (first, stop); the last may be partial."""
        start = 0
        while start < n_rows:
            _, _, first, capacity = self.chunk_of(start)
            stop = min(first + capacity, n_rows)
            yield start, stop
            start = stop

    def constant_paths(self) -> list[str]:
        """Return the arrays of step methods that do not change."""
        return [
            f"{layout.STATE}/{layout.step_group(int(schema['step_idx']))}/{path.replace('.', '/')}"
            for schema in self.schemas
            for path, text in schema["constants"].items()
            if text is None
        ]

    def draw_idx_spec(self) -> ArraySpec:
        """Return the array that counts the sealed draws of each chain."""
        return ArraySpec(
            path=layout.DRAW_IDX,
            dtype="<i8",
            shape=(self.chains,),
            chunk_shape=(1,),
            dimension_names=("chain",),
            zarr_format=self.zarr_format,
            compressor=default_compressor(),
        )

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        document["columns"] = [column.to_json() for column in self.columns]
        return {"format_version": layout.FORMAT_VERSION, **document}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], store: str) -> "Manifest":
        """Return the manifest that `to_json` described.

        Raises
        ------
        FormatVersionError
            If it is of a newer format.
        DamagedStoreError
            If it cannot be one.
        """
        found = document.get("format_version") if isinstance(document, dict) else None
        if found != layout.FORMAT_VERSION:
            raise FormatVersionError(
                f"{store} has format version {found}; this version of checkpoint reads version "
                f"{layout.FORMAT_VERSION}. Nothing was changed. "
                "Update with: pip install --upgrade pymc-checkpoint"
            )
        values = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        # Fields with a default came later than some stores.
        required = {f.name for f in fields(cls) if f.default is f.default_factory is MISSING}
        missing = sorted(required - set(values))
        if missing:
            raise DamagedStoreError(
                f"{store}: its manifest lacks {', '.join(missing)}. Restore the metadata of the "
                "root group from a copy."
            )
        try:
            columns = tuple(map(Column.from_json, values["columns"]))
            check(values, columns)
        except (TypeError, ValueError) as error:
            raise DamagedStoreError(
                f"{store}: its manifest cannot be that of a run: {error}. Nothing was changed. "
                "Restore the metadata of the root group from a copy; if others gave you the "
                "store, do not trust it."
            ) from error
        values["columns"] = columns
        for name in ("schemas", "variables", "rngs", "start_logp", "n_imported"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each fact that two runs do not share."""
    lines = []
    for key in sorted(set(before) | set(now)):
        if before.get(key) == now.get(key):
            continue
        if key not in now:
            lines.append(f"{key}: recorded as {before[key]}, now missing")
        elif key not in before:
            lines.append(f"{key}: new ({now[key]})")
        else:
            lines.append(f"{key}: recorded as {before[key]}, now {now[key]}")
    return lines


def environment() -> dict[str, str]:
    """Return what the last bits of a draw may depend on beyond the model."""
    facts = {"python": platform.python_version(), "machine": platform.machine()}
    for library in _LIBRARIES:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            continue
    facts["processor features"] = _processor_features()
    facts["blas threads"] = _blas_threads()
    facts["system"] = sys.platform
    return facts


def environment_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each change that may alter the last bits of a draw."""
    harmless = {"pymc-checkpoint"}
    return [line for line in differences(before, now) if line.split(":")[0] not in harmless]


def _processor_features() -> str:
    try:
        features = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return "unknown"
    return " ".join(sorted(name for name, present in features.items() if present))


def _blas_threads() -> str:
    from threadpoolctl import threadpool_info

    # Other pools come and go with what is imported.
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    counts = {str(pool["num_threads"]) for pool in pools}
    pinned = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.endswith("_NUM_THREADS")]
    return " ".join([*sorted(counts), *pinned])
