"""The report of a check of a store, as attributes and as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from checkpoint.printable import printable

__all__ = ["REPLAY", "Finding", "RecordedDraws", "Verification"]

REPLAY = "replay"
"""Key of findings about draws that were made again."""


@dataclass(frozen=True)
class Finding:
    """One value in the store that is not as it was written.

    Attributes
    ----------
    key : str
        Key of the value in the store.
    reason : str
    chain : int or None
        The chain whose draws are affected, if any are.
    draws : tuple of int, or None
        The first draw affected and one past the last, counted with warm-up.
    is_damage : bool
        False for draws that do not follow bit for bit where nothing promises that they do, and for
        a rehearsal that failed.
    """

    key: str
    reason: str
    chain: int | None = None
    draws: tuple[int, int] | None = None
    is_damage: bool = True

    def __str__(self) -> str:
        where = printable(self.key)
        if self.chain is not None:
            which = f"chain {self.chain}"
            if self.draws is not None:
                which = f"{_range(*self.draws)} of {which}"
            where += f" ({which})"
        return f"{where}: {printable(self.reason)}"


@dataclass(frozen=True)
class RecordedDraws:
    """What one chain has recorded, and which of it can be read.

    Attributes
    ----------
    chain : int
    n_rows : int
        Draws recorded, warm-up included, up to the first that is lost from the log.
    n_total : int
        Draws that the finished chain has.
    lost : tuple of (int, int)
        Draws of them that cannot be read in full, each as the first and one past the last.
    """

    chain: int
    n_rows: int
    n_total: int
    lost: tuple[tuple[int, int], ...] = ()

    @property
    def n_intact(self) -> int:
        """Draws that can be read, with stats and state."""
        return self.n_rows - sum(stop - start for start, stop in self.lost)

    def __str__(self) -> str:
        shown = f"chain {self.chain}: {self.n_intact} of {self.n_rows} recorded draws"
        if self.lost:
            shown += ", all but " + ", ".join(_range(*lost) for lost in self.lost)
        return shown


@dataclass(frozen=True)
class Verification:
    """What `Run.verify` found; as a text, the report that `checkpoint verify` prints.

    Attributes
    ----------
    store : str
    n_values : int
        Values in the store that were read.
    n_replayed : int
        Draws that were repeated.
    findings : tuple of Finding
    chains : tuple of RecordedDraws
        The draws that can be read. Empty if the root cannot be read.
    notes : tuple of str
        Remarks that are not damage.
    """

    store: str
    n_values: int
    n_replayed: int
    findings: tuple[Finding, ...]
    chains: tuple[RecordedDraws, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not any(finding.is_damage for finding in self.findings)

    def with_findings(self, findings: Sequence[Finding]) -> "Verification":
        """Return the report of these findings, with what they say of each chain."""
        chains = tuple(_with_lost(chain, findings) for chain in self.chains)
        return replace(self, findings=tuple(findings), chains=chains)

    def __str__(self) -> str:
        recorded = ", ".join(str(chain.n_rows) for chain in self.chains)
        of = f": draws {recorded} of {self.chains[0].n_total}" if self.chains else ""
        replayed = f", {self.n_replayed} draws made again" if self.n_replayed else ""
        lines = [f"{printable(self.store)}{of}; {self.n_values} values read{replayed}."]
        lines += _list("Damaged", [f for f in self.findings if f.is_damage])
        lines += _list("Not bit for bit", [f for f in self.findings if not f.is_damage])
        if not self.ok:
            lines += _list("Intact", self.chains)
        lines += _list("To note", self.notes)
        lines += ["All is as it was written."] if self.ok else [self._way_out()]
        return "\n".join(lines)

    def _way_out(self) -> str:
        if all(finding.key == REPLAY for finding in self.findings if finding.is_damage):
            return (
                "Every value agrees with its checksum, but draws that were made again differ. "
                "Either the model, its data, a library or the processor is not that of the run, or "
                "a value was changed together with its checksum. Make the draws again with those "
                "of the run. If they still differ, compare the store with a copy."
            )
        in_log = any("/log/c/" in finding.key for finding in self.findings)
        ways = ["Restore what is damaged from a copy."]
        if in_log:
            ways.append(
                "Draws lost from the log are drawn again by checkpoint.sample, as they were."
            )
        if self.chains:
            ways.append(
                "checkpoint.convert writes to a new store what can be read, up to the first lost "
                "draw of each chain; checkpoint.sample draws the rest again."
            )
        return " ".join(ways)


def _with_lost(chain: RecordedDraws, findings: Iterable[Finding]) -> RecordedDraws:
    """Return a chain with the lost draws that findings name, merged into separate ranges."""
    ranges = sorted(
        (0, chain.n_rows) if finding.draws is None else finding.draws
        for finding in findings
        if finding.chain == chain.chain and finding.is_damage
    )
    lost: list[tuple[int, int]] = []
    for start, stop in ranges:
        stop = min(stop, chain.n_rows)
        if start >= stop:
            continue
        if lost and start <= lost[-1][1]:
            lost[-1] = (lost[-1][0], max(lost[-1][1], stop))
        else:
            lost.append((start, stop))
    return replace(chain, lost=tuple(lost))


def _list(title: str, items: Iterable[object] | Sequence[object]) -> list[str]:
    lines = [f"  - {printable(item)}" for item in items]
    return [f"{title}:", *lines] if lines else []


def _range(start: int, stop: int) -> str:
    return f"draw {start}" if stop - start == 1 else f"draws {start} to {stop - 1}"
