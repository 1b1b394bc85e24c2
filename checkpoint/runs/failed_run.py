"""Refuse a run that is marked as failed, with the reason that was recorded."""

from collections.abc import Sequence

from checkpoint.errors import IncompleteStateError
from checkpoint.format.manifest import Manifest
from checkpoint.recording.rehearsed import STAYS, Rehearsed, failure_of, read_rehearsed
from checkpoint.stores import Store

__all__ = ["refuse", "refuse_failed"]


def refuse_failed(store: Store, manifest: Manifest) -> None:
    """Raise if a rehearsal of a run has failed.

    Raises
    ------
    IncompleteStateError
        If one has; the message holds the recorded reason.
    """
    refuse(store, read_rehearsed(store, manifest))


def refuse(store: Store, facts: Sequence[Rehearsed]) -> None:
    """Raise if the facts of any chain name a failed rehearsal."""
    if reason := failure_of(facts):
        raise IncompleteStateError(f"{store.name}: {reason} {STAYS}")
