"""Read and write single values of a run: the time spent sampling, and global warnings."""

from checkpoint.format import layout
from checkpoint.format.layout import is_metadata
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.nodes import read_array, read_number, scalar_keys
from checkpoint.stores import Store

__all__ = [
    "read_global_warnings",
    "read_sampling_time",
    "read_time",
    "sampling_time_keys",
    "write_global_warnings",
]


def sampling_time_keys(manifest: Manifest, seconds: float) -> dict[str, bytes]:
    """Return the key and the value that hold the time spent sampling, over all sessions."""
    keys = scalar_keys(manifest, "sampling_time", seconds)
    return {key: value for key, value in keys.items() if not is_metadata(key)}


def write_global_warnings(store: Store, manifest: Manifest, text: str) -> None:
    """Write the warnings of the convergence checks, a list as plain text."""
    keys = scalar_keys(manifest, "global_warnings", text)
    store.write({key: value for key, value in keys.items() if not is_metadata(key)})


def read_global_warnings(store: Store, manifest: Manifest) -> str:
    """Return the warnings of the convergence checks, a list as plain text."""
    return str(read_array(store, manifest, layout.state_path("global_warnings")))


def read_sampling_time(store: Store, manifest: Manifest) -> float:
    """Return the time spent sampling, over all sessions, in seconds."""
    return read_time(store, manifest, "sampling_time")


def read_time(store: Store, manifest: Manifest, name: str) -> float:
    """Return a number of seconds, by its name in the group of states."""
    return read_number(store, manifest, layout.state_path(name))
