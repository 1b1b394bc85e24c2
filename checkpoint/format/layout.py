"""Every path, key and attribute name of the format. `docs/format-v1.md` is its description."""

import os
import re
from collections.abc import Iterable

__all__ = [
    "ARRAY_V2",
    "ATTRIBUTE",
    "ATTRIBUTES_V2",
    "CLAIM",
    "CONSOLIDATED_V2",
    "CONSTANT_DATA",
    "DIGEST",
    "DOCUMENTS",
    "DRAW_IDX",
    "ELAPSED",
    "FORMAT_VERSION",
    "GROUPS",
    "GROUP_V2",
    "INITIAL_POINT",
    "LOG",
    "NODE",
    "OBSERVED_DATA",
    "POINT",
    "POSTERIOR",
    "REHEARSED",
    "SAMPLE_STATS",
    "SAVED_MODEL",
    "SESSIONS",
    "STATE",
    "UNCONSTRAINED",
    "UNFINISHED",
    "WARMUP",
    "group_of_phase",
    "initial_point_path",
    "is_key",
    "is_metadata",
    "log_entry",
    "log_folder",
    "member",
    "name_of",
    "of_rehearsed",
    "path_of_phase",
    "point_path",
    "rehearsed",
    "start_of_log_entry",
    "stat_path",
    "state_path",
    "step_group",
    "stored_name",
    "unstorable_name",
    "variable_path",
]

FORMAT_VERSION = 1

ATTRIBUTE = "checkpoint"
"""The attribute of the root group that holds the format version and the manifest."""

UNFINISHED = "unfinished"
"""The attribute of the root, and of groups of draws, that says how much of a run they show."""

NODE = "zarr.json"
"""The document of a node in Zarr format 3; that of the root has the consolidated metadata."""

GROUP_V2, ARRAY_V2, ATTRIBUTES_V2 = ".zgroup", ".zarray", ".zattrs"
"""The documents of a node in Zarr format 2."""

CONSOLIDATED_V2 = ".zmetadata"
"""The consolidated metadata of Zarr format 2, a copy of all documents."""

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
DIGEST = f"{STATE}/digest"
ELAPSED = f"{STATE}/clock/elapsed"
"""Column: seconds spent sampling the run, over all sessions, when the row was committed."""

INITIAL_POINT = f"{STATE}/initial_point"
LOG = f"{STATE}/log"

SESSIONS = f"{LOG}/sessions"
"""When the run was sampled, and how each session ended."""

SAVED_MODEL = f"{LOG}/model"
"""The pickled model and arguments of the run, if asked for."""

CLAIM = f"{LOG}/claim"
"""The process that writes, in stores that have no lock of their own."""

REHEARSED = f"{LOG}/rehearsed"
"""Which draws of each chain were repeated from the state before them, and the outcome."""

POINT = "point"
"""Folder below STATE for the variables of a point that no other group holds."""


def member(group: str, name: str) -> str:
    """Return the path of a node or document in a group; the root's name is empty."""
    return f"{group}/{name}" if group else name


def state_path(name: str) -> str:
    """Return the path of an array beside the states of the step methods."""
    return member(STATE, name)


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


def rehearsed(run_id: int, chain: int, draw_idx: int | None) -> str:
    """Return the key that says a chain passed its rehearsal at a draw; None: that it failed.

    >>> rehearsed(7, 0, 1)
    '_sampling_state/log/rehearsed/7-0-1'
    """
    return f"{REHEARSED}/{run_id}-{chain}-{'failed' if draw_idx is None else draw_idx}"


_OF_REHEARSED = re.compile(r"([0-9]{1,19})-([0-9]{1,9})-(failed|[0-9]{1,15})")


def of_rehearsed(name: str) -> tuple[int, int, int | None] | None:
    """Return run, chain and draw of a key that `rehearsed` made; None if it is none of them."""
    found = _OF_REHEARSED.fullmatch(name)
    if found is None:
        return None
    run_id, chain, at = found.groups()
    return int(run_id), int(chain), None if at == "failed" else int(at)


def is_key(text: object) -> bool:
    """Return whether a text that others may have written is a key, or a path of keys.

    A key names a place inside a store, in every kind of store.

    >>> is_key("posterior/mu"), is_key("/etc/passwd"), is_key("posterior/../..")
    (True, False, False)
    """
    if not isinstance(text, str) or not text or "\0" in text:
        return False
    if os.name == "nt":  # a backslash separates names, a colon names a drive or a stream
        text = text.replace("\\", "/").replace(":", "/../")
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not text.startswith("/") and ".." not in text.split("/")


def stored_name(name: str) -> str:
    """Return the name in a store of a variable, dimension or datum of a model.

    Most names are stored unchanged. Slashes, backslashes, and the first dot of a name that begins
    with one or is that of a metadata document are written as ``%`` and two hexadecimal digits, as
    in URLs. In such names, and in names that contain such an escape already, ``%`` is escaped too.

    >>> stored_name("mu"), stored_name(chr(92) + "sigma"), stored_name("50%"), stored_name("..")
    ('mu', '%5Csigma', '50%', '%2E.')
    """
    special = "/\\"
    is_hidden = name.startswith(".") or name in DOCUMENTS
    if not is_hidden and not _ESCAPED.search(name) and not set(special) & set(name):
        return name
    text = "".join(f"%{ord(letter):02X}" if letter in f"%{special}" else letter for letter in name)
    return text.replace(".", "%2E", 1) if is_hidden else text


def name_of(stored: str) -> str:
    """Return the original name of a stored name, the inverse of `stored_name`.

    >>> [name_of(stored_name(name)) for name in ("zarr.json", "%5C", "a/b", "%")]
    ['zarr.json', '%5C', 'a/b', '%']
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored)


_ESCAPED = re.compile("%(25|2E|2F|5C)")

_LONGEST = 255
"""Most bytes of a name in a file system."""


def unstorable_name(name: str, suffixes: Iterable[str] = ("",)) -> str:
    """Return why stores cannot hold a name with one of the suffixes; empty if they can."""
    if not name:
        return "is empty, and no file has such a name"
    if "\0" in name:
        return "holds a NUL, which no file name does"
    try:
        n_bytes = max(len(stored_name(f"{name}{suffix}").encode()) for suffix in suffixes)
    except UnicodeEncodeError:
        return "holds lone surrogates, which UTF-8 cannot"
    if n_bytes > _LONGEST:
        return f"takes {n_bytes} bytes as a file name, and file systems have room for {_LONGEST}"
    return ""


def variable_path(name: str, is_transformed: bool) -> str:
    """Return the path of the column of a recorded or of a transformed variable."""
    group = UNCONSTRAINED if is_transformed else POSTERIOR
    return f"{group}/{stored_name(name)}"


def point_path(name: str) -> str:
    """Return the path of the column of a value variable that is in no group of the result."""
    return f"{STATE}/{POINT}/{stored_name(name)}"


def initial_point_path(column_path: str) -> str:
    """Return the path of the initial values of a value variable, by that of its column.

    >>> initial_point_path("posterior/mu"), initial_point_path("_sampling_state/point/mu")
    ('_sampling_state/initial_point/mu', '_sampling_state/initial_point/mu')
    """
    name = column_path.removeprefix(f"{STATE}/").partition("/")[2]
    return f"{INITIAL_POINT}/{name}"


def stat_path(step_idx: int, name: str) -> str:
    """Return the path of the column of a stat."""
    return f"{SAMPLE_STATS}/sampler_{step_idx}__{name}"


DOCUMENTS = (NODE, ARRAY_V2, GROUP_V2, ATTRIBUTES_V2)
"""Names of metadata documents."""


def is_metadata(key: str) -> bool:
    """Return whether a key is that of a metadata document."""
    return key.rsplit("/", 1)[-1] in DOCUMENTS
