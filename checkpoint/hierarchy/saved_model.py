"""The pickled model of a run, kept beside its draws: bytes that are never loaded here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.checksums import CHECKSUM, checksum
from checkpoint.format.json_object import parse_object
from checkpoint.printable import printable
from checkpoint.stores import Store

__all__ = ["SavedModel", "existing_saved_model", "read_saved_model", "saved_model_keys"]

_MOST_HEADER_NBYTES = 1 << 16


@dataclass(frozen=True)
class SavedModel:
    """A pickle of model and arguments, with what it was written with.

    Attributes
    ----------
    data : bytes
        Written by cloudpickle. Loading it runs code.
    versions : mapping of str to str
        Versions of Python and the libraries that wrote it.
    arguments : tuple of str
        Names of the arguments of `sample` in it.
    """

    data: bytes
    versions: Mapping[str, str]
    arguments: tuple[str, ...]

    @property
    def written_by(self) -> str:
        """The versions, as text."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def saved_model_keys(saved: SavedModel) -> dict[str, bytes]:
    """Return the key and the value that hold a pickled model: a line of JSON, then the pickle."""
    header: dict[str, Any] = {
        "versions": dict(saved.versions),
        "arguments": list(saved.arguments),
    }
    header[CHECKSUM] = _checksum(header, saved.data)
    return {layout.SAVED_MODEL: json.dumps(header).encode() + b"\n" + saved.data}


def read_saved_model(store: Store) -> SavedModel | None:
    """Return the pickled model of a run, not loaded; None if none was saved.

    Raises
    ------
    DamagedStoreError
        If it is not what was written. No draw is affected.
    """
    value = store.read(layout.SAVED_MODEL)
    if value is None:
        return None
    header, newline, data = value.partition(b"\n")
    try:
        if not newline or len(header) > _MOST_HEADER_NBYTES:
            raise ValueError("it has no header")
        facts = parse_object(header)
        expected = facts.pop(CHECKSUM, None)
        if _checksum(facts, data) != expected:
            raise ValueError("its checksum differs")
        versions, arguments = facts["versions"], facts["arguments"]
        if not isinstance(versions, dict) or not isinstance(arguments, list):
            raise ValueError("its header is of another kind")
    except (ValueError, KeyError) as error:
        raise DamagedStoreError(
            f"{store.name}: {layout.SAVED_MODEL}, the saved model, cannot be read ({error}). It "
            "was not loaded. No draw is affected: continue the run from its script, or with "
            "--model FILE.py:NAME."
        ) from error
    # A stranger's checksum may be right.
    shown = {printable(str(name)): printable(str(text)) for name, text in versions.items()}
    return SavedModel(data, shown, tuple(printable(str(name)) for name in arguments))


def existing_saved_model(store: Store) -> SavedModel:
    """Return the pickled model of a run, not loaded.

    Raises
    ------
    ArgumentError
        If none was saved.
    DamagedStoreError
        If it is not what was written. No draw is affected.
    """
    saved = read_saved_model(store)
    if saved is None:
        raise ArgumentError(
            f"{store.name} holds no model: the run was sampled without save_model=True. Pass "
            "--model FILE.py:NAME, or continue the run from its script."
        )
    return saved


def _checksum(header: Mapping[str, Any], data: bytes) -> int:
    return checksum({**header, "pickle": data.hex()})
