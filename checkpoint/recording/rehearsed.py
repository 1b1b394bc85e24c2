"""Read and write the results of rehearsals: the last draw that passed, or why one failed.

A rehearsal repeats a recorded draw from the state before it. The results are names of keys below
the commit log, so that one listing shows those of all chains. The result for a draw is written
only after the draw is committed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.json_object import parse_object
from checkpoint.format.manifest import Manifest
from checkpoint.stores import Store

__all__ = [
    "NOTHING",
    "STAYS",
    "Rehearsed",
    "failure_of",
    "read_rehearsed",
    "rehearsed_draws",
    "write_failed",
    "write_passed",
    "write_rehearsed",
]


@dataclass(frozen=True)
class Rehearsed:
    """The results of the rehearsals of one chain.

    Attributes
    ----------
    passed : int
        Index of the last draw, warm-up included, that was repeated with an equal result; -1 if
        none is known.
    failure : str
        Why a rehearsal failed, without the name of the store; empty if none did.
    """

    passed: int = -1
    failure: str = ""

    def due(self, tune: int, n_rows: int) -> list[int]:
        """Return the draws of a chain of `n_rows` draws that are still to be rehearsed."""
        return [draw_idx for draw_idx in rehearsed_draws(tune, n_rows) if draw_idx > self.passed]


NOTHING = Rehearsed()
"""The result for a chain of which none was recorded."""

STAYS = (
    "The run is marked as failed: checkpoint.open shows its draws, but checkpoint.sample neither "
    "continues nor returns it. Begin a new run in another path."
)
"""The end of a message about a run of which a rehearsal failed."""


def rehearsed_draws(tune: int, n_rows: int) -> list[int]:
    """Return the draws of a chain that are rehearsed: the second of warm-up, the second after."""
    return sorted({draw_idx for draw_idx in (1, tune + 1) if draw_idx < n_rows})


def read_rehearsed(store: Store, manifest: Manifest) -> list[Rehearsed]:
    """Return the results of each chain; none for runs created before they were recorded.

    Results of another run, which are there if a store was mixed from two, are ignored.
    """
    facts = [NOTHING] * manifest.chains
    for name in store.names(layout.REHEARSED):
        found = layout.of_rehearsed(name)
        if found is None or found[0] != manifest.run_id or found[1] >= manifest.chains:
            continue
        run_id, chain, draw_idx = found
        if draw_idx is None:
            key = layout.rehearsed(run_id, chain, None)
            facts[chain] = replace(facts[chain], failure=_reason(store, key, chain))
        else:
            facts[chain] = replace(facts[chain], passed=max(facts[chain].passed, draw_idx))
    return facts


def failure_of(facts: Sequence[Rehearsed]) -> str:
    """Return why a rehearsal failed, for the first chain with a failure; empty if none failed."""
    return next((fact.failure for fact in facts if fact.failure), "")


def write_passed(store: Store, manifest: Manifest, chain: int, draw_idx: int) -> None:
    """Record that a draw was repeated with an equal result. The draw must be committed.

    Notes
    -----
    Durability: on return the result is as durable as the commit.
    """
    store.write({layout.rehearsed(manifest.run_id, chain, draw_idx): b"{}"})
    earlier = [at for at in rehearsed_draws(manifest.tune, draw_idx) if at < draw_idx]
    store.remove([layout.rehearsed(manifest.run_id, chain, at) for at in earlier])


def write_failed(store: Store, manifest: Manifest, chain: int, reason: str) -> None:
    """Record that a repeated draw came out different, and why.

    Notes
    -----
    Durability: on return the result is durable.
    """
    key = layout.rehearsed(manifest.run_id, chain, None)
    store.write({key: json.dumps({"reason": reason}).encode()})
    store.flush()


def write_rehearsed(store: Store, manifest: Manifest, chain: int, fact: Rehearsed) -> None:
    """Write the results of a chain that were read from another store.

    Notes
    -----
    Durability: see `write_passed` and `write_failed`.
    """
    if fact.passed >= 0:
        write_passed(store, manifest, chain, fact.passed)
    if fact.failure:
        write_failed(store, manifest, chain, fact.failure)


def _reason(store: Store, key: str, chain: int) -> str:
    try:
        reason = parse_object(store.read(key)).get("reason")
    except (ValueError, DamagedStoreError):
        reason = None
    # The text is not trusted: it must not hold control characters of a terminal.
    if isinstance(reason, str) and reason and reason.isprintable():
        return reason
    return (
        f"a draw of chain {chain}, repeated from the state before it, came out different. The "
        f"reason is in {key}, which cannot be read."
    )
