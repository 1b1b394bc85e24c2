"""What a trial reports, and how much of it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Effort(Enum):
    """How long a trial may take: a few minutes in all, or hours."""

    QUICK = "quick"
    LONG = "long"

    def of(self, quick: T, long: T) -> T:
        """Return one of two values."""
        return long if self is Effort.LONG else quick


@dataclass(frozen=True)
class Row:
    """A row of the table of guarantees.

    Attributes
    ----------
    fails : str
        What happens to the run.
    survives : str
        What is promised to be left.
    tested : str
        How that was tested, with the figures of this trial.
    n_tried : int
        Outcomes that were looked at.
    broken : sequence of str
        Where the promise did not hold, a line each: what to do to see it again.
    """

    fails: str
    survives: str
    tested: str
    n_tried: int
    broken: Sequence[str] = ()


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table of Markdown."""
    lines = [
        "| what fails | what survives | how it is tested | outcomes | broken |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in rows:
        cells = [row.fails, row.survives, row.tested, f"{row.n_tried:,}", f"{len(row.broken):,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
