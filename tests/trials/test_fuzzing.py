"""Readers raise what they declare, whatever they are given."""

import random

import pytest

from torture import fuzzing
from torture.readers import READERS, Reader, mutated
from torture.report import Effort


@pytest.mark.slow
def test_no_input_breaks_a_reader(tmp_path):
    [row] = fuzzing.trial(Effort.QUICK, 0, tmp_path)
    assert row.broken == []
    assert row.n_tried > 10 * len(READERS)


def test_every_reader_reads_what_inputs_are_made_from():
    assert list(fuzzing.every_reader_reads_its_seeds()) == []


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_few_mutations_break_no_reader(reader):
    rng = random.Random(f"a few {reader.name}")
    faults = [fuzzing.fault_of(reader, mutated(rng, reader))[0] for _ in range(25)]
    assert set(faults) == {""}


def _reader(read):
    return Reader("planted", [b"seed"], read, (ValueError,))


def test_an_error_that_is_not_declared_is_noticed():
    def read(data):
        raise KeyError("planted")

    assert "KeyError" in fuzzing.fault_of(_reader(read), b"")[0]


def test_memory_that_is_claimed_is_noticed():
    assert "MiB" in fuzzing.fault_of(_reader(lambda data: bytes(64 << 20)), b"")[0]
