"""Stores of somebody who means ill run no code, reach nothing outside, and end in our errors."""

import functools
import pickle

import numcodecs.pickles
import pytest
import zarr

from checkpoint import errors
from checkpoint.interop.importing.trees import open_groups
from checkpoint.reading import damage_report
from torture import hostile
from torture.attacks import ATTACKS, Attack, Outside
from torture.report import Effort


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return hostile.make_bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.slow
def test_no_attack_succeeds(tmp_path):
    [row] = hostile.trial(Effort.QUICK, 0, tmp_path)
    assert row.broken == []
    assert row.n_tried >= len(ATTACKS) // 6


def test_a_pickle_of_the_attacks_runs_where_it_is_loaded(tmp_path):
    outside = Outside(tmp_path, tmp_path / "sentinel")
    assert not outside.sentinel.exists()
    pickle.loads(outside.code).close()
    assert outside.sentinel.exists()


@pytest.mark.slow
@pytest.mark.parametrize("base", ["v3", "v2", "zip", "tree2", "tree3"])
def test_a_store_that_nobody_forged_passes_every_step(base, bases, tmp_path):
    verdict = hostile.try_attack(Attack("none", base, lambda store, outside: None), bases, tmp_path)
    assert verdict.broken == []
    assert verdict.refused == {}


def _run_code(store, outside):
    pickle.loads(outside.code).close()


@pytest.mark.slow
def test_code_that_runs_is_noticed(bases, tmp_path):
    verdict = hostile.try_attack(Attack("code", "v3", _run_code), bases, tmp_path)
    assert verdict.broken == ["code of the store was run"]


@pytest.mark.slow
def test_a_wrong_draw_is_noticed(bases, tmp_path):
    def change(store, outside):
        for a, b in (("c.0.0.0", "c.0.1.0"),):
            (store / "posterior/x" / a).write_bytes((store / "posterior/x" / b).read_bytes())

    verdict = hostile.try_attack(Attack("draws", "v3", change), bases, tmp_path)
    assert any("is not what was drawn" in line for line in verdict.broken)


def test_what_is_changed_outside_is_noticed(tmp_path):
    (tmp_path / "file").write_text("mine")
    before = hostile.tree_of(tmp_path)
    assert hostile.tree_of(tmp_path) == before
    (tmp_path / "file").write_text("hers")
    assert hostile.tree_of(tmp_path) != before


def folder_of(place, name):
    (place / name).mkdir()
    return place / name


@pytest.mark.slow
def test_code_of_a_result_that_others_keep_is_noticed_where_nothing_is_checked(
    bases, tmp_path, monkeypatch
):
    [found] = [a for a in ATTACKS if a.name == "a pickle as compressor in posterior/.hid"]
    assert hostile.try_attack(found, bases, folder_of(tmp_path, "checked")).broken == []
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    trusting = functools.partial(open_groups, allow_pickle=True)
    monkeypatch.setattr(hostile, "open_groups", lambda path, allow_pickle: trusting(path))
    with zarr.config.set({"array.allow_unsafe_pickle_decode": True}):
        verdict = hostile.try_attack(found, bases, folder_of(tmp_path, "trusted"))
    assert "code of the store was run" in verdict.broken


@pytest.mark.slow
def test_text_that_a_terminal_would_obey_is_noticed(bases, tmp_path, monkeypatch):
    [found] = [a for a in ATTACKS if (a.name, a.base) == ("a_document_with_escapes", "v3")]
    assert hostile.try_attack(found, bases, folder_of(tmp_path, "escaped")).broken == []
    for module in (errors, damage_report):
        monkeypatch.setattr(module, "printable", lambda text, lines=False: str(text))
    verdict = hostile.try_attack(found, bases, folder_of(tmp_path, "raw"))
    assert any("would reach a terminal" in line for line in verdict.broken)
