"""What the verbs for zip files share."""

from pathlib import Path

import click

from checkpoint.errors import RunNotFoundError

__all__ = ["ARCHIVE", "existing_archive", "size"]

ARCHIVE = click.Path(path_type=Path)


def existing_archive(path: Path) -> None:
    """Hold that there is something at a path.

    Raises
    ------
    RunNotFoundError
    """
    if not path.exists():
        raise RunNotFoundError(f"{path} does not exist. Check the path.")


def size(n_bytes: int) -> str:
    """Return a number of bytes as people read it.

    >>> size(999), size(5_200_000)
    ('999 B', '5.0 MiB')
    """
    number, unit = float(n_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1000 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
