"""Every path, key and attribute name of the format. `docs/format-v1.md` is its description."""

import os

__all__ = [
    "ATTRIBUTE",
    "CLAIM",
    "CONSTANT_DATA",
    "DRAW_IDX",
    "FORMAT_VERSION",
    "GROUPS",
    "INITIAL_POINT",
    "LOG",
    "OBSERVED_DATA",
    "POINT",
    "POSTERIOR",
    "SAMPLE_STATS",
    "STATE",
    "UNCONSTRAINED",
    "WARMUP",
    "group_of_phase",
    "is_key",
    "log_entry",
    "log_folder",
    "path_of_phase",
    "start_of_log_entry",
    "step_group",
]

FORMAT_VERSION = 1

ATTRIBUTE = "checkpoint"
"""The attribute of the root group that holds the format version and the manifest."""

POSTERIOR = "posterior"
SAMPLE_STATS = "sample_stats"
UNCONSTRAINED = "unconstrained_posterior"
CONSTANT_DATA = "constant_data"
OBSERVED_DATA = "observed_data"
STATE = "_sampling_state"
WARMUP = "warmup_"

GROUPS = frozenset(
    [STATE, CONSTANT_DATA, OBSERVED_DATA]
    + [
        f"{phase}{group}"
        for phase in ("", WARMUP)
        for group in (POSTERIOR, SAMPLE_STATS, UNCONSTRAINED)
    ]
)
"""The groups below the root."""

DRAW_IDX = f"{STATE}/draw_idx"
INITIAL_POINT = f"{STATE}/initial_point"
LOG = f"{STATE}/log"

CLAIM = f"{LOG}/claim"
"""Who writes, in stores that have no lock of their own."""

POINT = "point"
"""Folder below STATE for the variables of a point that no other group holds."""


def step_group(step_idx: int) -> str:
    """Return the group below STATE of one step method of a compound."""
    return f"step_{step_idx}"


def path_of_phase(path: str, warmup: bool) -> str:
    """Return the array path of a column in one phase: warm-up or after.

    >>> path_of_phase("posterior/mu", warmup=True)
    'warmup_posterior/mu'
    >>> path_of_phase("_sampling_state/step_0/tune", warmup=True)
    '_sampling_state/warmup_step_0/tune'
    """
    if not warmup:
        return path
    if path.startswith(f"{STATE}/"):
        return f"{STATE}/{WARMUP}{path[len(STATE) + 1 :]}"
    return f"{WARMUP}{path}"


def group_of_phase(group: str, warmup: bool) -> str:
    """Return a top-level group's name in one phase."""
    return f"{WARMUP}{group}" if warmup else group


def log_folder(chain: int) -> str:
    """Return the folder of a chain's commit log.

    It lies below an array node, where zarr does not look for groups and arrays.
    """
    return f"{LOG}/c/{chain}"


def log_entry(chain: int, first_draw_idx: int) -> str:
    """Return the key of the log entry that begins with a draw, warm-up included."""
    return f"{log_folder(chain)}/{first_draw_idx:012d}"


def start_of_log_entry(name: str) -> int | None:
    """Return the first draw of the entry of that name, or None if it names no entry."""
    return int(name) if len(name) == 12 and name.isascii() and name.isdigit() else None


def is_key(text: object) -> bool:
    """Return whether a text that others may have written is a key, or a path of keys.

    A key names a place inside a store, whatever kind of store that is.

    >>> is_key("posterior/mu"), is_key("/etc/passwd"), is_key("posterior/../..")
    (True, False, False)
    """
    if not isinstance(text, str) or not text or "\0" in text:
        return False
    if os.name == "nt":  # a backslash parts names, a colon names a drive or a stream
        text = text.replace("\\", "/").replace(":", "/../")
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not text.startswith("/") and ".." not in text.split("/")
