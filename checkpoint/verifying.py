"""Hold everything in a store against its checksums, beside a writer too; nothing is written.

A writer may replace what is looked at between two of our reads. As in `recovery`, what is found
counts if it is found again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from checkpoint import hierarchy, layout
from checkpoint.arrays import ArraySpec
from checkpoint.contents import is_metadata
from checkpoint.documents import (
    check_document,
    has_checksum,
    parse,
    root_attributes,
    same_document,
)
from checkpoint.errors import DamagedStoreError, NotARunError
from checkpoint.manifest import Manifest
from checkpoint.nodes import array_spec, is_array
from checkpoint.pymc_run import PyMCRun
from checkpoint.pymc_store import PyMCStore
from checkpoint.recovery import ChainRecord, recover
from checkpoint.stores import Store
from checkpoint.verification import Finding, RecordedDraws, Verification

__all__ = ["Look", "verify_store"]

_N_LOOKS = 5

_CHECKED = ("gzip", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.bz2", "numcodecs.lzma")
"""Compressors with a checksum of their own, besides zstd with the one that it has on request."""


def verify_store(store: Store) -> Verification:
    """Return what is damaged in a store, and what is not.

    Raises
    ------
    RunNotFoundError, NotARunError, FormatVersionError
        If there is no run of this package.
    StoreUnreachableError
        If the store does not answer.

    Notes
    -----
    Durability: nothing is written, and no lock is taken.
    """
    report = _look(store)
    for _ in range(_N_LOOKS):
        if not report.findings:
            break
        again = _look(store)
        both = tuple(finding for finding in again.findings if finding in report.findings)
        is_settled = len(both) == len(again.findings)
        report = replace(again, findings=both)
        if is_settled:
            break
    return report.with_findings(report.findings)


def _look(store: Store) -> Verification:
    try:
        manifest = hierarchy.existing_manifest(store)
    except DamagedStoreError as error:
        of_place, notes = store.faults()
        findings = (Finding("the root", str(error)), *(Finding(store.name, t) for t in of_place))
        return Verification(store.name, 1, 0, findings, (), tuple(notes))
    except NotARunError:
        if (found := PyMCStore.find(store)) is not None:
            PyMCRun(found).verify()
        raise
    return Look(store, manifest).report()


class Look:
    """One look at all that a run has."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._columns = {column.path: column for column in manifest.columns}
        self._n_values = 1  # the root
        self._notes: list[str] = []
        self._chains: list[RecordedDraws] = []

    def report(self) -> Verification:
        """Look at everything."""
        codec = dict((self._manifest.compressor or {}).get("configuration", {}))
        name = (self._manifest.compressor or {"name": "no compressor"})["name"]
        if self._manifest.zarr_format == 2 and name not in _CHECKED and not codec.get("checksum"):
            self._notes.append(
                f"chunks of Zarr format 2 with {name} have no checksum: only their size was held."
            )
        findings = [finding for part in self.parts() for finding in self.findings(*part)]
        findings += self._place(findings)
        return Verification(
            self._store.name, self._n_values, 0, tuple(findings), tuple(self._chains),
            tuple(self._notes),
        )  # fmt: skip

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Return what there is to look at: a kind, and which of it."""
        yield "root", None
        if not self._manifest.documents:
            self._notes.append(
                "it was written without checksums of metadata: that is only held to be readable. "
                "checkpoint.convert writes them."
            )
        yield from (("document", key) for key in self._document_keys())
        yield from (("array", path) for path in self._whole_arrays())
        yield from (("chain", chain) for chain in range(self._manifest.chains))

    def findings(self, kind: str, which: Any) -> Iterator[Finding]:
        """Look at one part."""
        if kind == "root":
            return self._root()
        look: dict[str, Callable[[Any], Iterator[Finding]]] = {
            "document": self._document,
            "array": self._whole_array,
            "chain": self._chain,
        }
        return look[kind](which)

    def _root(self) -> Iterator[Finding]:
        """Look at the root: its own document, and the copies in it of the others'."""
        is_v3 = self._manifest.zarr_format == 3
        key, copies = ("zarr.json", "zarr.json") if is_v3 else (".zgroup", ".zmetadata")
        attributes = root_attributes(self._store) or {}
        if self._manifest.documents and not has_checksum(attributes.get(layout.ATTRIBUTE)):
            where = "zarr.json" if is_v3 else ".zattrs"
            yield Finding(where, f"the attribute {layout.ATTRIBUTE} has lost its checksum")
        try:
            document = parse(self._store, key, self._store.read(key))
            expected = {"zarr_format": 3, "node_type": "group"} if is_v3 else {"zarr_format": 2}
            found = {name: document.get(name) for name in expected}
            if found != expected:
                yield Finding(key, f"{found}, expected {expected}; no draw is affected")
        except DamagedStoreError as error:
            yield Finding(key, str(error))
        try:
            yield from self._copies(copies, is_v3)
        except DamagedStoreError as error:
            yield Finding(copies, f"{error} No draw is affected.")

    def _copies(self, key: str, is_v3: bool) -> Iterator[Finding]:
        data = self._store.read(key)
        if data is None:
            self._notes.append(
                f"{key} is missing: readers look at every node. No draw is affected."
            )
            return
        self._n_values += 0 if is_v3 else 1
        holder: Any = parse(self._store, key, data)
        holder = holder.get("consolidated_metadata") if is_v3 else holder
        copies = holder.get("metadata") if isinstance(holder, Mapping) else None
        if not isinstance(copies, Mapping):
            self._notes.append(f"{key} holds no copies of the metadata. No draw is affected.")
            return
        for path, copy in copies.items():
            of_node = f"{path}/zarr.json" if is_v3 else path
            if of_node not in self._manifest.documents:
                continue
            if not same_document(self._manifest, of_node, copy):
                reason = f"its copy of {of_node} is not what was written; no draw is affected"
                yield Finding(key, reason)

    def _document_keys(self) -> list[str]:
        return sorted(self._manifest.documents) or [
            key
            for key in self._store.keys("")
            if is_metadata(key) and key.split("/", 1)[0] in layout.GROUPS
        ]

    def _document(self, key: str) -> Iterator[Finding]:
        self._n_values += 1
        try:
            document = parse(self._store, key, self._store.read(key))
            check_document(self._store, self._manifest, key, document)
        except DamagedStoreError as error:
            yield Finding(key, str(error))
            return
        yield from self._length(key, document)

    def _length(self, key: str, document: Mapping[str, Any]) -> Iterator[Finding]:
        """Hold the length of an array of draws against the root."""
        path = key.rpartition("/")[0]
        axis = self._manifest.lengths.get(path)
        if axis is None or "shape" not in document:
            return
        found, expected = document["shape"][axis], self._n_along(path)
        if not isinstance(found, int) or found < expected:
            yield Finding(key, f"the array has length {found}, expected {expected}")
        elif found > expected:
            self._notes.append(
                f"{key} has length {found}, the run {expected}: extending it was interrupted. "
                "No draw is affected."
            )

    def _n_along(self, path: str) -> int:
        column = self._columns.get(path)
        return (
            self._manifest.draws if column is None else self._manifest.spec(column, False).shape[1]
        )

    def _whole_arrays(self) -> list[str]:
        """Return what is no draws: coordinates, data, points, constants, clocks; and groups."""
        of_rows = {
            layout.path_of_phase(path, warmup) for path in self._columns for warmup in (False, True)
        }
        paths = {
            path
            for path, _, name in (key.rpartition("/") for key in self._document_keys())
            if name in ("zarr.json", ".zarray")
        }
        return sorted(paths - of_rows - {layout.DRAW_IDX, layout.LOG})

    def _whole_array(self, path: str) -> Iterator[Finding]:
        """Look at every chunk of an array."""
        try:
            if not is_array(self._store, self._manifest, path):
                return
            spec = array_spec(self._store, self._manifest, path)
        except DamagedStoreError:
            return  # found with the documents
        axis = self._manifest.lengths.get(path)
        shape = [self._manifest.draws if i == axis else n for i, n in enumerate(spec.shape)]
        n_chunks = [-(-n // size) for n, size in zip(shape, spec.chunk_shape, strict=True)]
        for index in product(*map(range, n_chunks)):
            if reason := self._why_unreadable(spec, *index):
                yield Finding(spec.chunk_key(*index), f"{reason}; no draw is affected")

    def _why_unreadable(self, spec: ArraySpec, *index: int) -> str:
        self._n_values += 1
        try:
            data = self._store.read(spec.chunk_key(*index))
            if data is None:
                return "it is missing"
            spec.decode(data)
        except Exception as error:  # codecs raise what they like
            return str(error) or repr(error)
        return ""

    def _chain(self, chain: int) -> Iterator[Finding]:
        """Look at all rows of a chain: every column has a chunk for those that are sealed."""
        manifest = self._manifest
        self._n_values += 1
        try:
            record = recover(self._store, manifest, chain)
        except DamagedStoreError as error:
            key = manifest.draw_idx_spec().chunk_key(chain)
            yield Finding(key, f"no draw of the chain can be read: {error}", chain)
            self._chains.append(RecordedDraws(chain, 0, manifest.total))
            return
        self._chains.append(RecordedDraws(chain, record.n_rows, manifest.total))
        self._n_values += len(record.entries)
        if record.damage is not None:
            stop = record.n_rows + record.damage.n_lost
            yield Finding(record.damage.key, record.damage.reason, chain, (record.n_rows, stop))
        yield from self._sealed(record)

    def _sealed(self, record: ChainRecord) -> Iterator[Finding]:
        manifest = self._manifest
        for start, stop in manifest.chunk_ranges(record.n_sealed):
            warmup, chunk_idx, _, _ = manifest.chunk_of(start)
            for column in manifest.columns:
                spec = manifest.spec(column, warmup)
                index = manifest.chunk_index(column, record.chain, chunk_idx)
                if reason := self._why_unreadable(spec, *index):
                    yield Finding(spec.chunk_key(*index), reason, record.chain, (start, stop))

    def _place(self, findings: list[Finding]) -> Iterator[Finding]:
        """Look at what the store itself is made of, as a zip file is."""
        damaged, notes = self._store.faults()
        self._notes += notes
        for text in damaged:
            if not any(finding.key in text for finding in findings):
                yield Finding(self._store.name, text)
