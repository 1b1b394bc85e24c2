"""Draws that hardly shrink are packed quickly, what shrinks is packed well, both as plain zstd."""

import numcodecs
import numpy as np
import pytest

from checkpoint.format.compressors import Compressor, default_compressor
from checkpoint.format.incompressible import quick_if_hopeless

LEVEL_3 = numcodecs.Zstd(level=3, checksum=True)


def real_numbers(n=100_000):
    return np.random.default_rng(1).normal(size=n).tobytes()


def test_real_numbers_are_packed_quickly_and_read_by_any_zstd():
    data = real_numbers()
    codec = quick_if_hopeless(LEVEL_3, data)
    assert codec.level < 0
    assert codec.checksum  # the only one that format 2 has
    packed = default_compressor().encode(data)
    assert len(packed) < 1.001 * len(data)
    assert bytes(LEVEL_3.decode(packed)) == data


@pytest.mark.parametrize(
    "data",
    [
        np.repeat(np.frombuffer(real_numbers(1000)), 200).tobytes(),  # chains that do not move
        np.tile(np.frombuffer(real_numbers(1000)), 200).tobytes(),
        np.arange(100_000).tobytes(),
        real_numbers(20_000),  # small
    ],
)
def test_what_shrinks_or_is_small_is_packed_as_the_metadata_says(data):
    assert quick_if_hopeless(LEVEL_3, data) is LEVEL_3
    assert default_compressor().encode(data) == bytes(LEVEL_3.encode(data))


def test_another_compressor_is_what_was_asked_for():
    data = real_numbers()
    for codec in (numcodecs.Blosc(), numcodecs.Zlib(), numcodecs.Zstd(level=-5)):
        assert quick_if_hopeless(codec, data) is codec
        assert Compressor(codec).encode(data) == bytes(codec.encode(data))
