"""Check the mode in which a model is compiled, and describe it as text."""

from importlib.util import find_spec
from typing import Any

import pytensor
from pytensor.compile.mode import Mode, get_mode

from checkpoint.errors import ArgumentError

__all__ = ["check_mode", "described", "described_before"]

_NEEDS = {"jax": "jax", "pytorch": "torch", "mlx": "mlx", "numba": "numba"}
"""The package that a linker needs, by the beginning of the name of the linker's class."""


def check_mode(backend: str | None, mode: Any) -> None:
    """Check that PyTensor has a mode, and that the package it compiles with is installed.

    Raises
    ------
    ArgumentError
        If the mode is unknown, or the package is not installed.
    """
    asked = f"backend={backend!r}" if backend is not None else f"compile_kwargs['mode']={mode!r}"
    given = ("cvm" if backend == "c" else backend) if backend is not None else mode
    try:
        found = get_mode(given)
        linker = type(found.linker).__name__.lower()
    except Exception as error:
        raise ArgumentError(
            f"{asked}: PyTensor has no such mode ({error}). Nothing was drawn or changed. "
            'Expected "numba", "c", "jax", "FAST_COMPILE", a Mode, or nothing.'
        ) from error
    for name, package in _NEEDS.items():
        if linker.startswith(name) and find_spec(package) is None:
            raise ArgumentError(
                f"{asked} compiles with {package}, which is not installed. Nothing was drawn or "
                f"changed. Install {package}, or choose another mode."
            )


def described(backend: str | None, mode: Any) -> str:
    """Return a mode as text: its name if one was given, or linker, query and database."""
    if backend is not None:
        return backend
    if mode is None:
        return _default()
    return _parts(mode) if isinstance(mode, Mode) else str(mode)


def described_before(mode: Any) -> str | None:
    """Return the text of a Mode in older runs, which do not record its parts; or None."""
    return str(getattr(mode, "name", None) or mode)[:80] if isinstance(mode, Mode) else None


def _default() -> str:
    flags = (pytensor.config.mode, pytensor.config.linker)
    if flags == ("Mode", "auto"):
        return "default"
    return f"default (mode {flags[0]}, linker {flags[1]})"


def _parts(mode: Mode) -> str:
    query = mode.provided_optimizer
    linker = mode.provided_linker
    parts = {
        "linker": linker if isinstance(linker, str) else _linker(linker),
        "optimizer": query if isinstance(query, str) else _query(query),
        "database": "default" if mode.optdb is None else type(mode.optdb).__name__,
    }
    return "Mode: " + "; ".join(f"{name} {text}" for name, text in parts.items())


def _linker(linker: Any) -> str:
    text = str(linker)
    return type(linker).__name__ if " at 0x" in text else text


def _query(query: Any) -> str:
    if query is None:
        return "none"
    parts = [
        f"{name} {', '.join(sorted(map(str, getattr(query, name) or ())))}"
        for name in ("include", "require", "exclude")
        if getattr(query, name, None)
    ]
    if subqueries := getattr(query, "subquery", None):
        inner = [f"{name} ({_query(subqueries[name])})" for name in sorted(subqueries)]
        parts.append(f"subqueries {', '.join(inner)}")
    if extra := getattr(query, "extra_rewrites", None):
        parts.append(f"further {', '.join(type(item[0]).__name__ for item in extra)}")
    if (cutoff := getattr(query, "position_cutoff", None)) not in (None, float("inf")):
        parts.append(f"up to position {cutoff}")
    return ", ".join(parts) or "empty"
