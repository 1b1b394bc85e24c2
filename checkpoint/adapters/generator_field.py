"""Generators as a field of a sampler state: their words and their seed sequence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.adapters.fields import Field
from checkpoint.format import plain
from checkpoint.format.arrays import TEXT
from checkpoint.format.generators import (
    WordReader,
    generator_from_words,
    generator_words,
    words_of_raw,
)
from checkpoint.format.rows import Column, RowSource, Values

__all__ = ["GeneratorField"]


@dataclass(frozen=True)
class GeneratorField(Field):
    """A numpy Generator with its seed sequence.

    `entropy` (as text, since it has many digits) and `pool_size` are the same in all chains of a
    run. One column holds the words of the bit generator, the other the number of spawned children
    followed by the spawn key.
    """

    kind = "generator"
    bit_generator: str
    entropy: str
    pool_size: int
    n_spawn_key: int

    @classmethod
    def of(cls, path: str, generator: np.random.Generator) -> "GeneratorField":
        """Return the field that describes a generator."""
        seed_seq: Any = generator.bit_generator.seed_seq
        entropy = seed_seq.entropy
        is_number = isinstance(entropy, int | np.integer)
        return cls(
            path,
            type(generator.bit_generator).__name__,
            plain.dumps(int(entropy) if is_number else [int(word) for word in entropy]),
            int(seed_seq.pool_size),
            len(seed_seq.spawn_key),
        )

    def check(self, step: Any) -> None:
        """Check that bit generator, entropy and pool size are still those of the field."""
        found = self.of(self.path, self.get(step))
        if found != self:
            raise self._changed(f"a {found.bit_generator} of entropy {found.entropy}")

    @property
    def columns(self) -> tuple[Column, ...]:
        is_words = self.bit_generator.startswith("PCG64")
        return (
            self.column("state", "<u8", (6,)) if is_words else self.column("state", TEXT),
            self.column("seed_sequence", "<u4", (1 + self.n_spawn_key,)),
        )

    def taker(self) -> Callable[[Any], Any]:
        get, reader = self.get, None

        def take(step: Any) -> Any:
            nonlocal reader
            generator = get(step)
            if reader is None or reader.generator is not generator:
                reader = WordReader.of(generator)
                if reader is None:
                    return self.take(step)
            seed_seq = reader.seed_seq
            return reader.read(), seed_seq.n_children_spawned, seed_seq.spawn_key

        return take

    def take(self, step: Any) -> Any:
        bit_generator = self.get(step).bit_generator
        seed_seq = bit_generator.seed_seq
        words = generator_words(bit_generator.state)
        return words, seed_seq.n_children_spawned, seed_seq.spawn_key

    def settle(self, taken: Sequence[Any]) -> tuple[Values, ...]:
        states, seeds = (column.empty(len(taken)) for column in self.columns)
        words = [item[0] for item in taken]
        if type(words[0][0]) is bytes:
            states[:] = words_of_raw(words)
        else:
            states[:] = words
        seeds[:, 0] = [item[1] for item in taken]
        seeds[:, 1:] = [item[2] for item in taken]
        return states, seeds

    def read(self, rows: RowSource, prefix: str, draw_idx: int) -> Any:
        state, seeds = (rows.value(prefix + column.path, draw_idx) for column in self.columns)
        n_children, *spawn_key = (int(word) for word in seeds)
        seed_sequence = {
            "entropy": plain.loads(self.entropy),
            "spawn_key": tuple(spawn_key),
            "pool_size": self.pool_size,
            "n_children_spawned": n_children,
        }
        return generator_from_words(self.bit_generator, state, seed_sequence)
