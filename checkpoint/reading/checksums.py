"""Check everything in a store against its checksums: documents, chunks, digests, the log."""

import errno
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import Any

from checkpoint.errors import DamagedStoreError, StoreUnreachableError, too_large
from checkpoint.format import layout
from checkpoint.format.arrays import ArraySpec
from checkpoint.format.checksums import (
    has_checksum,
    misleading_attributes,
    same_document,
)
from checkpoint.format.dates import of_dates
from checkpoint.format.digests import RowDigest
from checkpoint.format.layout import is_metadata
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.documents import check_document, parse, root_attributes
from checkpoint.hierarchy.nodes import array_spec, is_array
from checkpoint.hierarchy.saved_model import read_saved_model
from checkpoint.hierarchy.sessions import read_history
from checkpoint.hierarchy.unfinished import is_marked
from checkpoint.reading.damage_report import Finding, RecordedDraws, Verification
from checkpoint.recording.digesting import read_digests
from checkpoint.recording.record import ChainRecord, read_draw_idx
from checkpoint.recording.recovery import recover
from checkpoint.recording.rehearsed import STAYS, read_rehearsed
from checkpoint.stores import Store

__all__ = ["Look"]

_UNHARMED = "no draw is affected"

_OF_OTHERS = "dimensions or units that the node was not written with"

_HOLDER_V3 = {"kind": "inline", "must_understand": False}

_HOLDER_V2 = {"zarr_consolidated_format": 1}

_CHECKED = ("gzip", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.bz2", "numcodecs.lzma")
"""Compressors with a checksum of their own, besides zstd with the one that it has on request."""


class Look:
    """One look at all that a run has."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._columns = {column.path: column for column in manifest.columns}
        self._paths = {key.rpartition("/")[0] for key in manifest.documents}
        self._n_values = 1  # the root
        self._notes: list[str] = []
        self._chains: list[RecordedDraws] = []

    def report(self) -> Verification:
        """Check all parts, and return the report."""
        codec = dict((self._manifest.compressor or {}).get("configuration", {}))
        name = (self._manifest.compressor or {"name": "no compressor"})["name"]
        if self._manifest.zarr_format == 2 and name not in _CHECKED and not codec.get("checksum"):
            self._notes.append(
                f"chunks of Zarr format 2 with {name} have no checksum: only their size was "
                "checked."
            )
        findings = [finding for part in self.parts() for finding in self.findings(*part)]
        findings += self._place(findings)
        return Verification(
            self._store.name, self._n_values, 0, tuple(findings), tuple(self._chains),
            tuple(self._notes),
        )  # fmt: skip

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Return the parts to check, each as its kind and which one of that kind."""
        yield "root", None
        if not self._manifest.documents:
            self._notes.append(
                "it was written without checksums of metadata, so the metadata was only checked to "
                "be readable. checkpoint.convert writes these checksums."
            )
        yield from (("document", key) for key in self._document_keys())
        yield from (("array", path) for path in self._whole_arrays())
        yield "history", layout.SESSIONS
        yield "saved model", layout.SAVED_MODEL
        yield "rehearsals", None
        yield from (("chain", chain) for chain in range(self._manifest.chains))

    def findings(self, kind: str, which: Any) -> Iterator[Finding]:
        """Check one part."""
        if kind == "root":
            return self._root()
        look: dict[str, Callable[[Any], Iterator[Finding]]] = {
            "document": self._document,
            "array": self._whole_array,
            "history": self._history,
            "saved model": self._saved_model,
            "rehearsals": self._rehearsals,
            "chain": self._chain,
        }
        return look[kind](which)

    def _root(self) -> Iterator[Finding]:
        """Check the root: its own document, and its copies of the documents of nodes."""
        is_v3 = self._manifest.zarr_format == 3
        key, copies = (
            (layout.NODE, layout.NODE) if is_v3 else (layout.GROUP_V2, layout.CONSOLIDATED_V2)
        )
        attributes = root_attributes(self._store) or {}
        if self._manifest.documents and not has_checksum(attributes.get(layout.ATTRIBUTE)):
            where = layout.NODE if is_v3 else layout.ATTRIBUTES_V2
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
        expected = _HOLDER_V3 if is_v3 else _HOLDER_V2
        holder = holder.get("consolidated_metadata") if is_v3 else holder
        copies = holder.get("metadata") if isinstance(holder, Mapping) else None
        if not isinstance(copies, Mapping):
            self._notes.append(f"{key} holds no copies of the metadata. No draw is affected.")
            return
        found = {name: holder.get(name) for name in expected}
        if found != expected:
            yield Finding(key, f"its copies are under {found}, expected {expected}; {_UNHARMED}")
        of_nodes = {
            layout.member(path, layout.NODE) if is_v3 else path: copy
            for path, copy in copies.items()
        }
        for of_node in self._manifest.documents:
            if of_node not in of_nodes:
                yield Finding(key, f"it lacks a copy of {of_node}, which readers miss; {_UNHARMED}")
        for of_node, copy in of_nodes.items():
            if reason := self._why_another(of_node, copy):
                yield Finding(key, f"its copy of {of_node} {reason}; {_UNHARMED}")

    def _why_another(self, key: str, copy: Any) -> str:
        """Return what is wrong with a copy of a node's document, which readers follow."""
        path = key.rpartition("/")[0]
        if path not in self._paths:  # the root's own, or of what users added
            if path and not self._store.has(key):
                self._notes.append(f"there is a copy of {key}, which is not in the store.")
            return ""
        if names := misleading_attributes(key, copy):
            return f"has {', '.join(names)}, which readers apply to the values"
        if not same_document(self._manifest, key, copy):
            return "is not what was written"
        axis = self._manifest.lengths.get(path)
        if axis is not None and "shape" in copy:
            found, full = copy["shape"][axis], self._manifest.length(path)
            is_shorter = bool(self._counts) and found <= self._manifest.length(path, self._counts)
            if found != full and not is_shorter:
                return f"has length {found}, expected {full}"
        is_counted = key in self._manifest.documents
        if not is_counted and (copy.get("_ARRAY_DIMENSIONS") or of_dates(copy)):
            return f"has {_OF_OTHERS}"
        return ""

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
        yield from self._attributes(key, document)

    def _attributes(self, key: str, document: Mapping[str, Any]) -> Iterator[Finding]:
        """Look for attributes by which readers show other values than there are."""
        folder, _, name = key.rpartition("/")
        beside = layout.member(folder, layout.ATTRIBUTES_V2)
        if name == layout.ARRAY_V2 and beside not in self._manifest.documents:
            # Nothing in it counted when the array was written.
            try:
                key, document = beside, parse(self._store, beside, self._store.read(beside))
            except DamagedStoreError as error:
                yield Finding(beside, f"{error}; {_UNHARMED}")
                return
            if document.get("_ARRAY_DIMENSIONS") or of_dates(document):
                yield Finding(key, f"it has {_OF_OTHERS}; {_UNHARMED}")
        if names := misleading_attributes(key, document):
            reason = f"it has {', '.join(names)}, which readers apply to the values"
            yield Finding(key, f"{reason}; {_UNHARMED}. Remove what was added")

    def _length(self, key: str, document: Mapping[str, Any]) -> Iterator[Finding]:
        """Check the length of an array of draws against the root."""
        path = key.rpartition("/")[0]
        axis = self._manifest.lengths.get(path)
        if axis is None or "shape" not in document:
            return
        found, full = document["shape"][axis], self._manifest.length(path)
        if self._counts and isinstance(found, int):
            # A writer that was killed may not have come to show all that is sealed.
            most = self._manifest.length(path, self._counts)
            if found > most:
                yield Finding(key, f"the array has length {found}, and chains have {most} draws")
        elif not isinstance(found, int) or found < full:
            yield Finding(key, f"the array has length {found}, expected {full}")
        elif found > full:
            self._notes.append(
                f"{key} has length {found}, the run {full}: extending it was interrupted. "
                "No draw is affected."
            )

    @cached_property
    def _counts(self) -> list[int]:
        """Sealed draws of each chain, of which arrays may show less; empty if they show all."""
        if not self._manifest.grows or not is_marked(self._store):
            return []
        counts = []
        for chain in range(self._manifest.chains):
            try:
                counts.append(read_draw_idx(self._store, self._manifest, chain))
            except DamagedStoreError:  # found with the chains
                counts.append(self._manifest.total)
        return counts

    def _whole_arrays(self) -> list[str]:
        """Return what is no draws: coordinates, data, points, constants, clocks; and groups."""
        of_rows = {
            layout.path_of_phase(path, warmup) for path in self._columns for warmup in (False, True)
        }
        paths = {
            path
            for path, _, name in (key.rpartition("/") for key in self._document_keys())
            if name in (layout.NODE, layout.ARRAY_V2)
        }
        return sorted(paths - of_rows - {layout.DRAW_IDX, layout.DIGEST, layout.LOG})

    def _whole_array(self, path: str) -> Iterator[Finding]:
        """Check every chunk of an array."""
        try:
            if not is_array(self._store, self._manifest, path):
                return
            spec = array_spec(self._store, self._manifest, path)
        except DamagedStoreError:
            return  # found with the documents
        axis = self._manifest.lengths.get(path)
        full = self._manifest.length(path)
        shape = [full if i == axis else n for i, n in enumerate(spec.shape)]
        if 0 in shape:  # no chunk, however large the other axes claim to be
            return
        n_chunks = [-(-n // size) for n, size in zip(shape, spec.chunk_shape, strict=True)]
        for index in product(*map(range, n_chunks)):
            if reason := self._why_unreadable(spec, *index):
                yield Finding(spec.chunk_key(*index), f"{reason}; no draw is affected")

    def _why_unreadable(self, spec: ArraySpec, *index: int) -> str:
        return self._chunk(spec, *index)[1]

    def _chunk(self, spec: ArraySpec, *index: int) -> tuple[Any, str]:
        """Return what is in a chunk, or why it cannot be read."""
        self._n_values += 1
        try:
            data = self._store.read(spec.chunk_key(*index))
            if data is None:
                return None, "it is missing"
            return spec.decode(data), ""
        except StoreUnreachableError as error:
            if getattr(error.__cause__, "errno", None) == errno.EIO:  # of this file alone, perhaps
                return None, str(error)
            raise  # what cannot be read by this process, or now, may be whole
        except MemoryError as error:
            raise too_large(self._store.name, spec.chunk_key(*index), error) from error
        except Exception as error:  # codecs raise what they like
            return None, str(error) or repr(error)

    def _history(self, key: str) -> Iterator[Finding]:
        """Check the record of sessions, which older runs lack."""
        try:
            self._n_values += bool(read_history(self._store).sessions)
        except DamagedStoreError as error:
            yield Finding(key, str(error))

    def _saved_model(self, key: str) -> Iterator[Finding]:
        """Check the pickled model, without loading it; most runs have none."""
        try:
            self._n_values += read_saved_model(self._store) is not None
        except DamagedStoreError as error:
            yield Finding(key, str(error))

    def _rehearsals(self, _: None) -> Iterator[Finding]:
        """Report chains that failed a rehearsal, which is not damage."""
        manifest = self._manifest
        for chain, fact in enumerate(read_rehearsed(self._store, manifest)):
            if fact.failure:
                key = layout.rehearsed(manifest.run_id, chain, None)
                reason = f"a rehearsal failed: {fact.failure} {STAYS}"
                yield Finding(key, reason, chain, is_damage=False)

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
        digest = RowDigest.of_no_rows(manifest.run_id, record.chain, manifest.columns)
        unreadable = {column.path for column in manifest.columns if column.per_commit}
        for start, stop in manifest.grid.ranges(record.n_sealed):
            chunk = manifest.grid.chunk_at(start)
            rows = {}
            for column in manifest.columns:
                spec = manifest.spec(column, chunk.warmup)
                index = manifest.chunk_index(column, record.chain, chunk.idx)
                values, reason = self._chunk(spec, *index)
                if reason:
                    yield Finding(spec.chunk_key(*index), reason, record.chain, (start, stop))
                    unreadable.add(column.path)
                    rows[column.path] = column.empty(stop - start)
                    continue
                inside = (slice(0, n) for n in column.shape)
                here = slice(start - chunk.first, stop - chunk.first)
                rows[column.path] = values[0][(here, *inside)]
            digest = digest.after(manifest.columns, rows, stop - start)
        if manifest.has_digests:
            yield from self._digest(record, digest, unreadable)

    def _digest(
        self, record: ChainRecord, found: RowDigest, unreadable: set[str]
    ) -> Iterator[Finding]:
        """Check that the sealed rows are those that this run recorded, in the same order."""
        key = self._manifest.digest_spec().chunk_key(record.chain, 0, 0)
        self._n_values += 1
        try:
            known = read_digests(self._store, self._manifest, record.chain)
        except DamagedStoreError as error:
            yield Finding(key, str(error))
            return
        if not known and record.n_sealed:
            yield Finding(key, "it is missing; no draw is affected")
        for expected in known[:1] if len({*known}) == 1 else known:
            if expected.n_rows != record.n_counted or expected.n_rows != found.n_rows:
                continue  # of a seal that was not completed, or is being
            for column, crc, wanted in zip(
                self._manifest.columns, found.crcs, expected.crcs, strict=True
            ):
                if column.path not in unreadable and crc != wanted:
                    reason = (
                        "its sealed draws are not those that this run recorded: some are of "
                        "another run, or of an older copy"
                    )
                    yield Finding(column.path, reason, record.chain, (0, found.n_rows))

    def _place(self, findings: list[Finding]) -> Iterator[Finding]:
        """Check the structure of the store itself, such as that of a zip file."""
        damaged, notes = self._store.faults()
        self._notes += notes
        for text in damaged:
            if not any(finding.key in text for finding in findings):
                yield Finding(self._store.name, text)
