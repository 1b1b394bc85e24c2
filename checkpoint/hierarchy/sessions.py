"""The record of the sessions of a run: when each sampled, and how it ended.

The record is one small document beside the commit log. It is replaced as a whole, so that a crash
leaves the old one or the new one. The newest sessions are kept one by one, older ones as sums.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.checksums import CHECKSUM, checksum
from checkpoint.format.json_object import parse_object
from checkpoint.printable import printable
from checkpoint.stores import Store

__all__ = ["MAX_SESSIONS", "History", "Session", "encode_history", "read_history"]

MAX_SESSIONS = 100
"""Sessions that are kept one by one."""

_LONGEST = 300
"""Most characters of a text in the record, and most versions of a session."""


@dataclass(frozen=True)
class Session:
    """One process that sampled a run, from its beginning to its end.

    Attributes
    ----------
    began : float
        Seconds since 1970.
    ended : float or None
        Seconds since 1970; of a killed session, about when it last committed. None while the
        session runs, or if it was killed and no other followed.
    how : str
        ``"finished"``, ``"signal"``, ``"deadline"``, ``"error"``, ``"killed"`` or
        ``"unknown"``; empty where `ended` is None.
    detail : str
        Name of the signal, the deadline, or class and message of the error.
    host : str
    pid : int
    versions : mapping of str to str
        Versions of the libraries by name.
    cores : int
    seconds_before : float
        Seconds that earlier sessions spent sampling.
    seconds : float
        Seconds that this session spent sampling.
    n_before : int
        Draws of all chains together when it began, warm-up included.
    n_gained : int
        Draws that it added.
    """

    began: float
    host: str
    pid: int
    versions: Mapping[str, str]
    cores: int
    seconds_before: float
    n_before: int
    ended: float | None = None
    how: str = ""
    detail: str = ""
    seconds: float = 0.0
    n_gained: int = 0

    @property
    def has_ended(self) -> bool:
        return self.ended is not None

    def so_far(self, spent: float, n_recorded: int) -> "Session":
        """Return the session without an end as the recorded draws tell it.

        Parameters
        ----------
        spent : float
            Seconds spent sampling the run, over all sessions.
        n_recorded : int
            Draws of all chains together, warm-up included.
        """
        seconds = max(0.0, spent - self.seconds_before)
        return replace(self, seconds=seconds, n_gained=max(0, n_recorded - self.n_before))

    def killed(self) -> "Session":
        """Return the session as one that was killed after its last commit."""
        return replace(self, how="killed", ended=self.began + self.seconds)

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return document | {"detail": _plain(self.detail), "host": _plain(self.host)}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Return the session that a document describes.

        Raises
        ------
        ValueError
            If it describes none.
        """
        if not isinstance(document, dict):
            raise ValueError(f"{document!r:.100} is no session")
        for name, is_right in _FIELDS.items():
            if not is_right(document.get(name)):
                raise ValueError(f"{name} of a session is {document.get(name)!r:.100}")
        values = {name: document[name] for name in _FIELDS}
        texts = {name: _plain(values[name]) for name in ("how", "detail", "host")}
        versions = {_plain(k): _plain(v) for k, v in values["versions"].items()}
        return cls(**values | texts | {"versions": versions})


@dataclass(frozen=True)
class History:
    """The sessions of a run, oldest first.

    Attributes
    ----------
    sessions : tuple of Session
        The newest sessions.
    n_older : int
        Number of older sessions, of which only sums are kept.
    older_seconds : float
    older_gained : int
    older_how : mapping of str to int
        Number of older sessions by how they ended.
    """

    sessions: tuple[Session, ...] = ()
    n_older: int = 0
    older_seconds: float = 0.0
    older_gained: int = 0
    older_how: Mapping[str, int] = field(default_factory=dict)

    @property
    def last(self) -> Session | None:
        return self.sessions[-1] if self.sessions else None

    def with_session(self, session: Session) -> "History":
        """Return the history with one more session."""
        return replace(self, sessions=(*self.sessions, session))._shortened()

    def with_last(self, session: Session) -> "History":
        """Return the history with its last session replaced."""
        return replace(self, sessions=(*self.sessions[:-1], session))

    def to_json(self) -> dict[str, Any]:
        """Return the sessions as plain values, fit for JSON."""
        return {
            "sessions": [session.to_json() for session in self.sessions],
            "n_older": self.n_older,
            "older_seconds": self.older_seconds,
            "older_gained": self.older_gained,
            "older_how": dict(self.older_how),
        }

    def _shortened(self) -> "History":
        n = len(self.sessions) - MAX_SESSIONS
        if n <= 0:
            return self
        how = dict(self.older_how)
        for session in self.sessions[:n]:
            how[session.how] = how.get(session.how, 0) + 1
        return History(
            self.sessions[n:],
            self.n_older + n,
            self.older_seconds + sum(session.seconds for session in self.sessions[:n]),
            self.older_gained + sum(session.n_gained for session in self.sessions[:n]),
            how,
        )


def read_history(store: Store) -> History:
    """Return the sessions of a run; none if it was written before they were recorded.

    Raises
    ------
    DamagedStoreError
        If the record is not what was written. No draw is affected.
    """
    data = store.read(layout.SESSIONS)
    if data is None:
        return History()
    try:
        document = parse_object(data)
        expected = document.pop(CHECKSUM, None)
        if checksum(document) != expected:
            raise ValueError("its checksum differs")
        return _history(document)
    except ValueError as error:
        raise DamagedStoreError(
            f"{store.name}: {layout.SESSIONS}, the record of when the run was sampled, cannot be "
            f"read ({error}). No draw is affected; checkpoint.sample begins a new record."
        ) from error


def encode_history(history: History) -> dict[str, bytes]:
    """Return the key and the value that hold the sessions of a run."""
    document = history.to_json()
    document[CHECKSUM] = checksum(document)
    return {layout.SESSIONS: json.dumps(document).encode()}


def _history(document: Mapping[str, Any]) -> History:
    sessions, older_how = document.get("sessions"), document.get("older_how")
    if not isinstance(sessions, list) or len(sessions) > MAX_SESSIONS:
        raise ValueError("its sessions are no list, or too many")
    if not isinstance(older_how, dict) or not all(map(_is_count, older_how.values())):
        raise ValueError(f"older_how is {older_how!r:.100}")
    for name in ("n_older", "older_gained"):
        if not _is_count(document.get(name)):
            raise ValueError(f"{name} is {document.get(name)!r:.100}")
    if not _is_time(document.get("older_seconds")):
        raise ValueError(f"older_seconds is {document.get('older_seconds')!r:.100}")
    return History(
        tuple(map(Session.from_json, sessions)),
        document["n_older"],
        document["older_seconds"],
        document["older_gained"],
        {_plain(how): n for how, n in older_how.items()},
    )


def _plain(text: str) -> str:
    """Return a text that may be shown at a terminal: one line, of bounded length."""
    shown = printable(text[: 2 * _LONGEST])
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_time(value: object) -> bool:
    is_number = type(value) in (int, float)
    return is_number and math.isfinite(value) and 0 <= value < 1 << 36  # type: ignore[operator, arg-type]


def _is_versions(value: object) -> bool:
    is_object = isinstance(value, dict) and len(value) <= _LONGEST
    return is_object and all(isinstance(version, str) for version in value.values())  # type: ignore[attr-defined]


_FIELDS: dict[str, Any] = {
    "began": _is_time,
    "ended": lambda value: value is None or _is_time(value),
    "how": _is_text,
    "detail": _is_text,
    "host": _is_text,
    "pid": _is_count,
    "versions": _is_versions,
    "cores": _is_count,
    "seconds_before": _is_time,
    "seconds": _is_time,
    "n_before": _is_count,
    "n_gained": _is_count,
}
