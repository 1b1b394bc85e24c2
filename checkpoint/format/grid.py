"""The division of a chain's draws into chunks, separate for warm-up and the draws after it."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Chunk", "Grid"]


@dataclass(frozen=True)
class Chunk:
    """One chunk of a chain; draws are counted with warm-up.

    Attributes
    ----------
    warmup : bool
        Whether it holds draws of warm-up.
    idx : int
        Its index among the chunks of its phase.
    first, stop : int
        The range of draws that it has room for.
    """

    warmup: bool
    idx: int
    first: int
    stop: int

    @property
    def capacity(self) -> int:
        """Number of draws that it has room for."""
        return self.stop - self.first


@dataclass(frozen=True)
class Grid:
    """The chunks of each chain of a run.

    Attributes
    ----------
    tune : int
        Draws of warm-up. The last chunk of warm-up ends with it.
    warmup_size, size : int
        Draws in a chunk, in warm-up and after it.
    """

    tune: int
    warmup_size: int
    size: int

    def chunk_at(self, draw_idx: int) -> Chunk:
        """Return the chunk that a draw lies in."""
        warmup = draw_idx < self.tune
        start, size = (0, self.warmup_size) if warmup else (self.tune, self.size)
        return self.chunk(warmup, (draw_idx - start) // size)

    def chunk(self, warmup: bool, idx: int) -> Chunk:
        """Return a chunk by its index among the chunks of its phase."""
        if warmup:
            first = idx * self.warmup_size
            return Chunk(warmup, idx, first, min(first + self.warmup_size, self.tune))
        first = self.tune + idx * self.size
        return Chunk(warmup, idx, first, first + self.size)

    def ranges(self, n_rows: int) -> Iterator[tuple[int, int]]:
        """Return the rows of a chain chunk by chunk, as (first, stop); the last may be partial."""
        start = 0
        while start < n_rows:
            stop = min(self.chunk_at(start).stop, n_rows)
            yield start, stop
            start = stop
