"""Tables and numbers as text: the width of a terminal, no word cut off, colour only there."""

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["NOTHING", "as_text", "duration", "speed", "table"]

NOTHING = "-"
"""What stands for a value that is not known."""

Cell = str | Text


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], left: Sequence[str]) -> Table:
    """Return a table; the columns named in `left` are of words, the others of numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        justify = "left" if heading in left else "right"
        made.add_column(heading, justify=justify, vertical="top", overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*[Text(cell) if isinstance(cell, str) else cell for cell in row])
    return made


def as_text(shown: RenderableType, width: int = 80) -> str:
    """Return what a terminal of that width would show, without colour."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(shown, end="")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def duration(seconds: float | None) -> str:
    """Return a number of seconds as a short text.

    >>> [duration(seconds) for seconds in (0.42, 42, 600, 9000, 1e6, None)]
    ['0.4 s', '42 s', '10 min', '2.5 h', '12 d', '-']
    """
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for most, unit, in_seconds in ((99.5, "s", 1.0), (99.5, "min", 60.0)):
        if seconds / in_seconds < most:
            return f"{seconds / in_seconds:.0f} {unit}"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 47.95 else f"{hours / 24:.0f} d"


def speed(draws_per_second: float | None) -> str:
    """Return a speed in draws per second, to three digits.

    >>> [speed(x) for x in (1234.5, 41.23, 0.5, 0.00123, None)]
    ['1234', '41.2', '0.500', '0.00123', '-']
    """
    if draws_per_second is None:
        return NOTHING
    x = draws_per_second
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:#.3g}"
