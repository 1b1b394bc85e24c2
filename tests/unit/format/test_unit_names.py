"""Each name of a model has one name in a store, which zarr can show and which tells it apart."""

import pytest

from checkpoint.format.layout import (
    initial_point_path,
    is_key,
    name_of,
    stored_name,
    unstorable_name,
)

NAMES = ["mu", "\\sigma", "a\\b/c", "..", ".", ".x", "zarr.json", ".zarray", "50%", "%5C", "%255C",
         "%2E.", "%25", "a%2Fb", "w__", "ü", " ", "C:x"]  # fmt: skip


def test_a_stored_name_is_one_part_of_a_key_and_gives_the_name_back():
    stored = [stored_name(name) for name in NAMES]
    assert [name_of(text) for text in stored] == NAMES
    assert len(set(stored)) == len(NAMES)
    for text in stored:
        assert is_key(text)
        assert not set("/\\") & set(text)
        assert not text.startswith(".")
        assert text not in ("zarr.json", ".zarray")


def test_most_names_stay_as_they_are():
    for name in ("mu", "w__", "50%", "ü", "a:b", "1|group"):
        assert stored_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "empty"), ("a\0", "NUL"), ("\ud800", "surrogates"), ("ü" * 128, "256 bytes"),
     ("\\" * 86, "258 bytes")],
)  # fmt: skip
def test_what_no_store_can_hold_is_told(name, reason):
    assert reason in unstorable_name(name)


def test_a_suffix_counts():
    assert not unstorable_name("n" * 250)
    assert "257" in unstorable_name("n" * 250, ("", "_dim_00"))


def test_initial_points_have_the_name_of_their_column():
    for group in ("posterior", "unconstrained_posterior", "_sampling_state/point"):
        assert initial_point_path(f"{group}/%5Cx") == "_sampling_state/initial_point/%5Cx"
