"""Python values as JSON text and back, exactly; nothing is executed on the way back.

Plain values keep their JSON form. Values that JSON lacks become an object with one key that begins
with ``$``: tuples, arrays, numpy scalars, complex numbers, exceptions, and the few dataclasses and
named tuples that a caller registers.
"""

import base64
import builtins
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from checkpoint.errors import DamagedStoreError

__all__ = ["dumps", "loads", "stat_objects"]

_KINDS = "biufcmMSUV"
"""Kinds of numpy dtypes whose items are plain bytes."""


def dumps(value: Any) -> str:
    """Return `value` as text.

    Raises
    ------
    TypeError
        If it holds something that has no plain form.
    """
    return json.dumps(_to_json(value), separators=(",", ":"))


def loads(text: str, classes: Mapping[str, type] | None = None) -> Any:
    """Return the value of a text that `dumps` made.

    Parameters
    ----------
    text : str
    classes : mapping of str to type, optional
        The dataclasses and named tuples that may be rebuilt, by name. Others become dicts.

    Raises
    ------
    DamagedStoreError
        If the text is not one that `dumps` makes.
    """
    try:
        return _from_json(json.loads(text), classes or {})
    except Exception as error:  # whatever a forged text makes the constructors raise
        raise DamagedStoreError(
            f"The text {text!r:.80} in the store is not a plain value: {type(error).__name__}: "
            f"{error}. It was changed or damaged. Restore the store from a copy."
        ) from error


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _array_to_json(value)
    if isinstance(value, complex):
        return {"$complex": [value.real, value.imag]}
    if type(value) is list:
        return [_to_json(item) for item in value]
    if type(value) is tuple:
        return {"$tuple": [_to_json(item) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _to_json(item) for key, item in value.items()}
        return {"$dict": [[_to_json(key), _to_json(item)] for key, item in value.items()]}
    if isinstance(value, BaseException):
        return {"$exception": [type(value).__name__, str(value)]}
    if is_dataclass(value) and not isinstance(value, type):
        items = {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
        return {"$object": [type(value).__name__, items]}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        items = {name: _to_json(item) for name, item in value._asdict().items()}
        return {"$object": [type(value).__name__, items]}
    if hasattr(value, "name") and hasattr(type(value), "__members__"):  # an enum
        return {"$enum": [type(value).__name__, value.name]}
    if isinstance(value, np.dtype):
        return {"$dtype": value.str}
    if hasattr(value, "__array__"):  # of JAX or another library
        return _array_to_json(np.asarray(value))
    raise TypeError(f"{type(value).__name__} has no plain form")


def _array_to_json(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        items = [_to_json(item) for item in array.ravel().tolist()]
        return {"$objects": [list(array.shape), items]}
    dtype = array.dtype.newbyteorder("<")
    data = base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()
    kind = "$array" if isinstance(value, np.ndarray) else "$scalar"
    return {kind: [dtype.str, list(array.shape), data]}


def _from_json(value: Any, classes: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, classes) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith("$"):
        return {key: _from_json(item, classes) for key, item in value.items()}
    [(kind, content)] = value.items()
    if kind in ("$array", "$scalar"):
        dtype, shape, data = content
        if np.dtype(str(dtype)).kind not in _KINDS:
            raise ValueError(f"an array of dtype {dtype}")
        array = np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape)
        array = array.astype(array.dtype.newbyteorder("="))
        return array if kind == "$array" else array[()]
    if kind == "$tuple":
        return tuple(_from_json(item, classes) for item in content)
    if kind == "$complex":
        return complex(*content)
    if kind == "$dict":
        return {_from_json(key, classes): _from_json(item, classes) for key, item in content}
    if kind == "$dtype":
        return np.dtype(str(content))
    if kind == "$objects":
        shape, items = content
        array = np.empty(len(items), dtype=object)
        array[:] = [_from_json(item, classes) for item in items]
        return array.reshape(shape)
    if kind == "$exception":
        return _rebuild_exception(content[0], content[1], classes)
    if kind == "$enum":
        name, member = content
        return classes[name][member] if name in classes else member  # type: ignore[index]
    if kind == "$object":
        name, items = content
        items = {key: _from_json(item, classes) for key, item in items.items()}
        return classes[name](**items) if name in classes else items
    raise ValueError(f"unknown kind of plain value: {kind!r:.60}")


def _rebuild_exception(name: str, message: str, classes: Mapping[str, type]) -> BaseException:
    known = classes.get(name, getattr(builtins, name, None))
    if isinstance(known, type) and issubclass(known, Exception):
        return known(message)
    return RuntimeError(f"{name}: {message}")


def stat_objects(texts: np.ndarray[Any, Any], classes: Mapping[str, type]) -> np.ndarray[Any, Any]:
    """Return the objects of a stat, such as warnings, from their texts; None for no text."""
    rebuilt = np.empty(texts.shape, dtype=object)
    for index, text in np.ndenumerate(texts):
        rebuilt[index] = loads(text, classes) if text else None
    return rebuilt
