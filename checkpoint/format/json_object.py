"""Parse a JSON object that others may have written, or say what is wrong with it."""

import json
from typing import Any

__all__ = ["parse_object"]


def parse_object(data: bytes | str | None) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises
    ------
    ValueError
        If it is missing, not JSON, not an object, nested too deeply, or has too long numbers.
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
