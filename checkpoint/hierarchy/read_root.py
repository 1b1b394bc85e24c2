"""Read the root document, which says whether a store holds a run, and which."""

from checkpoint.errors import NotARunError, RunNotFoundError
from checkpoint.format import layout
from checkpoint.format.layout import DOCUMENTS
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.documents import (
    check_no_remains,
    read_attribute,
    root_attributes,
)
from checkpoint.stores import Store

__all__ = ["BEGUN", "existing_manifest", "is_zarr_group", "is_zarr_trace", "read_manifest"]

_OF_ZARR_TRACE = ("sampling_state", "draw_idx", "tuning_steps", "sampling_time", "chain")
"""Arrays below STATE that PyMC's ZarrTrace has; a run of ours lacks the first."""

BEGUN = {"format_version": layout.FORMAT_VERSION, "is_begun": True}


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest of the run in a store, or None if the store is empty.

    Raises
    ------
    NotARunError
        If the store holds something else.
    FormatVersionError
        If the run is of a newer format.
    DamagedStoreError
        If the root document is damaged, or is missing above a run.
    """
    attributes = root_attributes(store)
    if attributes is None:
        found = [name for name in store.names("") if not name.startswith(".")]
        attributes = root_attributes(store)  # it may have been written meanwhile
    if attributes is None:
        if found and found != [layout.STATE]:
            check_no_remains(store, "is missing")
            raise NotARunError(
                f"{store.name} holds something other than a run of checkpoint: found "
                f"{', '.join(found[:5])}. Nothing was changed. Choose another path."
            )
        return None
    if layout.ATTRIBUTE not in attributes:
        if is_zarr_trace(store):
            raise NotARunError(
                f"{store.name} holds a store of PyMC's ZarrTrace that checkpoint did not write. "
                "Nothing was changed. Read it with checkpoint.open, turn it into a run with "
                "checkpoint.convert(old, new, model=model, allow_pickle=True), or choose another "
                "path."
            )
        check_no_remains(store, f"has no attribute {layout.ATTRIBUTE}")
        raise NotARunError(
            f"{store.name} holds a Zarr group that checkpoint did not write. Nothing was changed. "
            "Choose another path."
        )
    if attributes[layout.ATTRIBUTE] == BEGUN:
        return None
    manifest = read_attribute(store, attributes[layout.ATTRIBUTE])
    return manifest if _is_complete(store, manifest) else None


def existing_manifest(store: Store) -> Manifest:
    """Return the manifest of the run in a store that must hold one.

    Raises
    ------
    RunNotFoundError
        If the store is empty.
    NotARunError, FormatVersionError, DamagedStoreError
        As in `read_manifest`.
    """
    manifest = read_manifest(store)
    if manifest is None:
        holder = store.writer_holder()
        if holder is not None and holder.is_alive is not False:
            raise RunNotFoundError(
                f"{store.name} holds no run yet: {holder} is creating one. Look again in a moment."
            )
        raise RunNotFoundError(f"{store.name} holds no run. Check the path.")
    return manifest


def is_zarr_trace(store: Store) -> bool:
    """Return whether PyMC's ZarrTrace wrote a store, with zarr 2."""
    keys = [layout.member(layout.state_path(name), layout.ARRAY_V2) for name in _OF_ZARR_TRACE]
    return not store.missing(
        [layout.GROUP_V2, layout.member(layout.POSTERIOR, layout.GROUP_V2), *keys]
    )


def is_zarr_group(store: Store) -> bool:
    """Return whether there is a Zarr group at the root, written by any program."""
    return store.has(layout.NODE) or store.has(layout.GROUP_V2)


def _is_complete(store: Store, manifest: Manifest) -> bool:
    """Return whether the creation of a run was completed, or any of its draws is recorded.

    In a zip file that was compacted, the root comes before the counts of sealed draws, which are
    written last on creation. A file that is cut off in between holds no complete run.
    """
    if store.has(manifest.draw_idx_spec().chunk_key(manifest.chains - 1)):
        return True
    first = manifest.columns[0]
    phases = [True, False] if manifest.tune else [False]
    folders = [manifest.spec(first, warmup).path for warmup in phases]
    folders += [layout.log_folder(chain) for chain in range(manifest.chains)]
    return any(name not in DOCUMENTS for folder in folders for name in store.names(folder))
