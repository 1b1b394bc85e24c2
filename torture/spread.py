"""Spreads work over the processors of this machine, by forking what is prepared."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["spread"]

_work: Callable[[Any], Any] | None = None
_items: list[Any] = []


def spread(work: Callable[[Any], Any], items: Iterable[Any], chunk: int = 8) -> Iterator[Any]:
    """Return what `work` returns for each item, in order; neither needs to be picklable."""
    global _work, _items
    _work, _items = work, list(items)
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(_call, range(len(_items)), chunk)


def _call(i: int) -> Any:
    assert _work is not None
    return _work(_items[i])
