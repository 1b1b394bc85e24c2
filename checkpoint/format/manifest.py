"""The manifest of a run: its fixed settings, and the facts that tell it from other runs."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from checkpoint.errors import DamagedStoreError, FormatVersionError
from checkpoint.format import layout
from checkpoint.format.arrays import ArraySpec
from checkpoint.format.compressors import Compressor, default_compressor
from checkpoint.format.grid import Grid
from checkpoint.format.log_entry import encode_columns
from checkpoint.format.manifest_check import check
from checkpoint.format.rows import Column

__all__ = ["Manifest"]


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
        Layout in the store of the state of each step method.
    point_paths : mapping of str to str
        Column that holds each value variable.
    variables : tuple of str
        Recorded variables, in PyMC's order.
    model, settings : mapping of str to str
        Facts that tell this run from others, by name.
    environment : mapping of str to str
        Versions, processor and threads.
    seed : str
        The seed that the run began with, for messages; the draws depend on `rngs`.
    rngs : tuple of dict
        The generator of each chain before its first draw.
    start_logp : tuple of str
        Log-probability at the start of each chain; empty where a stat has it.
    sequential : bool
        Whether the run began as in PyMC's driver for one process, not as in that for several.
    fastmath : bool
        Whether the model was compiled with fastmath.
    n_imported : tuple of int
        For each chain the number of rows at its start that came without the state of the sampler;
        empty if there are none.
    origin : str
        Source of imported rows, and how exactly they are continued, as text for messages.
    graph : mapping of str to str
        Text of each variable of the model, and the versions behind it; empty in older stores.
    call : mapping of str to str
        The arguments that `settings` follow from; empty in older stores, or if they are unknown.
    data : mapping of str to list of str
        Names of the data by group, in PyMC's order; empty in stores that do not say.
    grows : bool
        Whether arrays of draws are as long as what all chains have sealed; in older stores they
        have their full length from the start.
    stopped_by : str
        The criterion that ended sampling at `draws`, before what was asked for; empty if none did.
    documents : mapping of str to int
        Checksum of each metadata document below the root, by its key; empty in stores that have
        none.
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
    graph: Mapping[str, str] = field(default_factory=dict)
    call: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, list[str]] = field(default_factory=dict)
    grows: bool = False
    stopped_by: str = ""
    documents: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Draws of a chain, warm-up included."""
        return self.tune + self.draws

    def with_draws(self, draws: int, stopped_by: str = "") -> "Manifest":
        return replace(self, draws=draws, stopped_by=stopped_by)

    def first_state(self, chain: int) -> int:
        """Return the first row of a chain that has the state of the sampler after it."""
        return self.n_imported[chain] if self.n_imported else 0

    @cached_property
    def variable_paths(self) -> dict[str, str]:
        """The column of each recorded variable, by its name."""
        found = {}
        for path in [column.path for column in self.columns]:
            group, _, stored = path.partition("/")
            if group in (layout.POSTERIOR, layout.UNCONSTRAINED):
                found[layout.name_of(stored)] = path
        return {name: found[name] for name in self.variables}

    @cached_property
    def codec(self) -> Compressor:
        return Compressor.from_json(self.compressor)

    @cached_property
    def column_list(self) -> bytes:
        """The list of columns that every log entry begins with."""
        return encode_columns(self.columns)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Index of the dimension that grows with the run, by path of the array."""
        axes: dict[str, int] = {}
        for warmup in (False, True) if self.grows and self.tune else (False,):
            of_phase = {layout.path_of_phase(c.path, warmup): 1 for c in self.columns}
            groups = {path.partition("/")[0] for path in of_phase} - {layout.STATE}
            axes |= of_phase | {layout.member(group, "draw"): 0 for group in groups}
        return axes

    def shown(self, counts: Sequence[int]) -> tuple[int, int]:
        """Return how many draws all chains have in warm-up and after it, given those of each."""
        n = min(counts)
        return min(n, self.tune), min(max(n - self.tune, 0), self.draws)

    def length(self, path: str, counts: Sequence[int] | None = None) -> int:
        """Return the length of an array along the draws: in full, or of those all chains have."""
        warmup = path.removeprefix(f"{layout.STATE}/").startswith(layout.WARMUP)
        counts = [self.total] if counts is None or not self.grows else counts
        n_draws = self.shown(counts)[0 if warmup else 1]
        if path in self._per_commit:
            return -(-n_draws // (self.warmup_chunk if warmup else self.chunk))
        return n_draws

    @cached_property
    def _per_commit(self) -> set[str]:
        paths = [column.path for column in self.columns if column.per_commit]
        return {layout.path_of_phase(path, warmup) for path in paths for warmup in (False, True)}

    def is_warmup(self, draw_idx: int) -> bool:
        """Return whether a draw, counted from the start of warm-up, is of warm-up."""
        return draw_idx < self.tune

    @cached_property
    def grid(self) -> Grid:
        """How the draws of each chain are cut into chunks."""
        return Grid(self.tune, self.warmup_chunk, self.chunk)

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
        """Return the index of a chain's chunk in the chunk grid of a column."""
        return (chain, chunk_idx, *(0 for _ in column.shape))

    def chunk_keys(self, chain: int, chunk_idx: int, warmup: bool) -> list[str]:
        """Return the keys of a chain's chunk, one for each column."""
        return [
            self.spec(column, warmup).chunk_key(*self.chunk_index(column, chain, chunk_idx))
            for column in self.columns
        ]

    def constant_paths(self) -> list[str]:
        """Return the paths of the constant arrays of the step methods."""
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

    def digest_spec(self) -> ArraySpec:
        """Return the array of the digests of each chain's rows."""
        shape = (2, 1 + len(self.columns))
        return ArraySpec(
            path=layout.DIGEST,
            dtype="<i8",
            shape=(self.chains, *shape),
            chunk_shape=(1, *shape),
            dimension_names=("chain", "digest_dim_0", "digest_dim_1"),
            zarr_format=self.zarr_format,
            compressor=default_compressor(),
        )

    @property
    def has_digests(self) -> bool:
        """Whether the run was created with digests of its rows."""
        return any(
            layout.member(layout.DIGEST, name) in self.documents for name in layout.DOCUMENTS
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
            If it is of another version of the format.
        DamagedStoreError
            If it is not a valid manifest.
        """
        found = document.get("format_version") if isinstance(document, dict) else None
        if found != layout.FORMAT_VERSION:
            raise FormatVersionError(
                f"{store} has format version {found}; this version of checkpoint reads version "
                f"{layout.FORMAT_VERSION}. Nothing was changed. "
                "Update with: pip install --upgrade pymc-checkpoint"
            )
        values = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        # Fields with a default may be missing: they are newer than some stores.
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
        Compressor.from_json(values["compressor"])  # refused before anything is read with it
        values["columns"] = columns
        for name in ("schemas", "variables", "rngs", "start_logp", "n_imported"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)
