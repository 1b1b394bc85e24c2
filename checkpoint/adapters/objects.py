"""The classes of PyMC's objects that are kept as plain text, such as warnings.

They are looked up only when such a value is read. Most states and stats contain none, and reading
those needs no PyMC.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

__all__ = ["CLASSES"]


class _Classes(Mapping[str, type]):
    """A mapping of names to classes that imports PyMC when it is first used."""

    def __getitem__(self, name: str) -> type:
        return _known_classes()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_known_classes())

    def __len__(self) -> int:
        return len(_known_classes())


@lru_cache(maxsize=1)
def _known_classes() -> dict[str, type]:
    from checkpoint._pymc.steps import plain_classes

    return plain_classes()


CLASSES = _Classes()
"""Name -> class, for `plain.loads`."""
