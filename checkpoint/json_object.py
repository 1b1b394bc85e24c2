"""JSON that others may have written: an object, or a `ValueError` that says what it is instead."""

import json
from typing import Any

__all__ = ["parse_object"]


def parse_object(data: bytes | str | None) -> dict[str, Any]:
    """Return the object that a text in JSON is.

    Raises
    ------
    ValueError
        If it is missing, no JSON, no object, nested too deeply, or has numbers too long to read.
    """
    if data is None:
        raise ValueError("it is missing")
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError(f"it is a {type(document).__name__}, not an object")
    return document
