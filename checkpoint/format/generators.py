"""numpy generators as words and back, the seed sequence included.

numpy's own copy and pickle of a Generator drop the seed sequence, and with it the number of
children spawned, on which the generators of later children depend.
"""

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from checkpoint.errors import DamagedStoreError
from checkpoint.format import plain

__all__ = [
    "WordReader",
    "generator_from_json",
    "generator_from_words",
    "generator_spawned_beside",
    "generator_to_json",
    "generator_words",
    "words_of_raw",
]

_POINTER_SIZE = ctypes.sizeof(ctypes.c_void_p)

_LOW = (1 << 64) - 1

_LARGEST_POOL = 1 << 10
"""Most words in the pool of a seed sequence: numpy has 4, and the time grows with the square."""

_BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})


def generator_words(state: Mapping[str, Any]) -> Any:
    """Return a bit generator's state as words; as text if it is not of the PCG64 family.

    The six words are the high and low half of the state, those of the increment, whether half
    a word is left over, and that half word.
    """
    if not state["bit_generator"].startswith("PCG64"):
        return plain.dumps(dict(state))
    inner = state["state"]
    value, increment = inner["state"], inner["inc"]
    return (
        value >> 64,
        value & _LOW,
        increment >> 64,
        increment & _LOW,
        state["has_uint32"],
        state["uinteger"],
    )


class WordReader:
    """Reads the words of one Generator straight from its memory, in well under a microsecond.

    numpy gives the address of a bit generator's state but does not document what is there.
    `of` therefore returns a reader only if reading agrees with the state that numpy itself gives,
    on a test generator that differs from a fresh one in every word.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator  # keeps the memory alive
        bit_generator: Any = generator.bit_generator
        address = bit_generator.ctypes.state_address
        words = ctypes.c_void_p.from_address(address).value
        self._words = memoryview((ctypes.c_uint64 * 4).from_address(words or 0))
        self._flags = memoryview((ctypes.c_uint32 * 2).from_address(address + _POINTER_SIZE))
        self.seed_seq = bit_generator.seed_seq

    @classmethod
    def of(cls, generator: np.random.Generator) -> "WordReader | None":
        """Return a reader, or None where the memory is not as expected."""
        kind = type(generator.bit_generator)
        return cls(generator) if kind.__name__ == "PCG64" and _is_laid_out_as_expected() else None

    def read(self) -> tuple[bytes, bytes]:
        """Return the raw words."""
        return self._words.tobytes(), self._flags.tobytes()


def words_of_raw(raw: Sequence[tuple[bytes, bytes]]) -> np.ndarray[Any, Any]:
    """Return the results of several calls of `WordReader.read` as words, ``(n, 6)``."""
    words = np.frombuffer(b"".join(item[0] for item in raw), dtype="u8").reshape(-1, 4)
    flags = np.frombuffer(b"".join(item[1] for item in raw), dtype="u4").reshape(-1, 2)
    # 128-bit integers lie with their low half first.
    return np.concatenate([words[:, [1, 0, 3, 2]], flags.astype("u8")], axis=1)


@lru_cache(maxsize=1)
def _is_laid_out_as_expected() -> bool:
    if sys.byteorder != "little" or np.dtype("P").itemsize != _POINTER_SIZE:
        return False
    generator = np.random.Generator(np.random.PCG64(20_261_122))
    try:
        reader = WordReader(generator)
        for _ in range(3):  # leaves half a word over, then none, then another
            generator.integers(1 << 32, dtype=np.uint32)
            [found] = words_of_raw([reader.read()]).tolist()
            if tuple(found) != tuple(generator_words(generator.bit_generator.state)):
                return False
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def generator_from_words(
    bit_generator: str, words: Any, seed_sequence: Mapping[str, Any]
) -> np.random.Generator:
    """Return the Generator that `generator_words` described."""
    if isinstance(words, str):
        state = plain.loads(words)
    else:
        high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
        state = {
            "bit_generator": bit_generator,
            "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
            "has_uint32": has_uint32,
            "uinteger": uinteger,
        }
    return _generator(bit_generator, state, seed_sequence)


def generator_spawned_beside(generator: np.random.Generator, n_on: int) -> np.random.Generator:
    """Return a fresh Generator, spawned `n_on` places after this one from the same parent."""
    bit_generator: Any = generator.bit_generator
    seed_seq = bit_generator.seed_seq
    *parent, place = seed_seq.spawn_key
    key = (*parent, (place + n_on) % (1 << 32))
    seed_sequence = np.random.SeedSequence(
        seed_seq.entropy, spawn_key=key, pool_size=seed_seq.pool_size
    )
    return np.random.Generator(type(bit_generator)(seed_sequence))


def generator_to_json(generator: np.random.Generator) -> dict[str, str]:
    """Return a Generator as JSON."""
    bit_generator = generator.bit_generator
    seed_seq: Any = bit_generator.seed_seq
    return {
        "state": plain.dumps(dict(bit_generator.state)),
        "seed_sequence": plain.dumps(dict(seed_seq.state)),
    }


def generator_from_json(document: Mapping[str, str]) -> np.random.Generator:
    """Return the Generator that `generator_to_json` described."""
    state, seed_sequence = (plain.loads(document[key]) for key in ("state", "seed_sequence"))
    name = state.get("bit_generator") if isinstance(state, dict) else None
    return _generator(str(name), state, seed_sequence)


def _generator(name: str, state: Any, seed_sequence: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator in a state that may come from a store.

    Raises
    ------
    DamagedStoreError
        If it is not a valid state.
    """
    try:
        bit_generator = _bit_generator(name, seed_sequence)
        _check_places(state)
        bit_generator.state = state
    except DamagedStoreError:
        raise
    except Exception as error:  # numpy may raise any error
        raise DamagedStoreError(
            f"The store holds a state of {name} that is not valid: {type(error).__name__}: "
            f"{error}. It was changed or damaged. Restore it from a copy."
        ) from error
    return np.random.Generator(bit_generator)


def _check_places(state: Mapping[str, Any]) -> None:
    """Check that positions in a state lie within its buffer: numpy does not check them."""
    inner = state["state"]
    for place, last in ((inner.get("pos", 0), 624), (state.get("buffer_pos", 0), 4)):
        if not 0 <= int(place) <= last:
            raise ValueError(f"its place is {place}, expected 0 to {last}")


def _bit_generator(name: str, seed_sequence: Mapping[str, Any]) -> Any:
    # The name may come from a store: only numpy's own classes are looked up.
    if name not in _BIT_GENERATORS:
        raise DamagedStoreError(
            f"The store names the bit generator {name!r}; expected one of "
            f"{', '.join(sorted(_BIT_GENERATORS))}. It was changed, or is of another program."
        )
    if not 1 <= int(seed_sequence["pool_size"]) <= _LARGEST_POOL:
        raise ValueError(f"its seed sequence has a pool of {seed_sequence['pool_size']}")
    return getattr(np.random, name)(np.random.SeedSequence(**seed_sequence))
