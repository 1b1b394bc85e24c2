"""numpy generators as words and back, the seed sequence included.

numpy's own copy and pickle of a Generator drop the seed sequence, and with it the number of
children spawned, on which the generators of later children depend.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint import plain
from checkpoint.errors import DamagedStoreError

__all__ = ["generator_from_json", "generator_from_words", "generator_to_json", "generator_words"]

_LOW = (1 << 64) - 1

_BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})


def generator_words(state: Mapping[str, Any]) -> tuple[Any, bool, int]:
    """Return a bit generator's state: four 64-bit words (text if not PCG64), and its half word."""
    if not state["bit_generator"].startswith("PCG64"):
        return plain.dumps(dict(state)), False, 0
    inner = state["state"]
    value, increment = inner["state"], inner["inc"]
    words = (value >> 64, value & _LOW, increment >> 64, increment & _LOW)
    return words, bool(state["has_uint32"]), state["uinteger"]


def generator_from_words(
    bit_generator: str,
    words: Any,
    has_uint32: bool,
    uinteger: int,
    seed_sequence: Mapping[str, Any],
) -> np.random.Generator:
    """Return the Generator that `generator_words` described."""
    if isinstance(words, str):
        state = plain.loads(words)
    else:
        high, low, inc_high, inc_low = (int(word) for word in words)
        state = {
            "bit_generator": bit_generator,
            "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
            "has_uint32": int(has_uint32),
            "uinteger": uinteger,
        }
    generator = _bit_generator(bit_generator, seed_sequence)
    generator.state = state
    return np.random.Generator(generator)


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
    state = plain.loads(document["state"])
    bit_generator = _bit_generator(
        state["bit_generator"], plain.loads(document["seed_sequence"])
    )
    bit_generator.state = state
    return np.random.Generator(bit_generator)


def _bit_generator(name: str, seed_sequence: Mapping[str, Any]) -> Any:
    # The name may come from a store: only numpy's own classes are looked up.
    if name not in _BIT_GENERATORS:
        raise DamagedStoreError(
            f"The store names the bit generator {name!r}; expected one of "
            f"{', '.join(sorted(_BIT_GENERATORS))}. It was changed, or is of another program."
        )
    return getattr(np.random, name)(np.random.SeedSequence(**seed_sequence))
