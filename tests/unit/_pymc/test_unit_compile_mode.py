"""Compile modes: what is recorded of them, and which cannot be had."""

import pytensor
import pytest
from pytensor.compile.mode import get_mode

from checkpoint._pymc import compile_mode
from checkpoint._pymc.compile_mode import check_mode, described, described_before
from checkpoint.errors import ArgumentError


def test_names_are_recorded_as_they_were_given():
    assert described("jax", None) == "jax"
    assert described(None, "FAST_COMPILE") == "FAST_COMPILE"
    assert described(None, None) == "default"


def test_a_default_that_is_not_the_usual_one_says_so():
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        assert described(None, None) == "default (mode FAST_COMPILE, linker auto)"


def test_of_a_mode_the_parts_are_recorded_and_no_address():
    modes = [
        get_mode("FAST_COMPILE"),
        get_mode("FAST_RUN"),
        get_mode("FAST_RUN").excluding("fusion"),
        get_mode("FAST_RUN").excluding("fusion", "inplace"),
        get_mode("FAST_RUN").including("local_pow_canonicalize"),
    ]
    texts = [described(None, mode) for mode in modes]
    assert len(set(texts)) == len(texts)
    assert all(" at 0x" not in text for text in texts)
    assert described(None, get_mode("FAST_RUN").excluding("fusion")) == texts[2]
    assert "exclude fusion, inplace" in texts[3]


def test_the_text_of_before_is_known_for_modes_only():
    assert described_before(get_mode("FAST_RUN"))
    assert described_before("NUMBA") is None


def test_modes_that_are_there_pass():
    for backend, mode in ((None, None), ("c", None), (None, "FAST_COMPILE"), ("numba", None)):
        check_mode(backend, mode)
    check_mode(None, get_mode("FAST_RUN"))


@pytest.mark.parametrize(("backend", "mode"), [("enzyme", None), (None, "FAST"), (None, 3)])
def test_an_unknown_mode_is_an_error(backend, mode):
    with pytest.raises(ArgumentError, match="no such mode"):
        check_mode(backend, mode)


def test_a_mode_whose_library_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(compile_mode, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="jax, which is not installed"):
        check_mode("jax", None)
