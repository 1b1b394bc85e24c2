"""What the report of a check says to do."""

from checkpoint.reading.damage_report import REPLAY, Finding, RecordedDraws, Verification

CHAINS = (RecordedDraws(0, 30, 40), RecordedDraws(1, 40, 40))


def report(*findings):
    return Verification("fit.zarr", 9, 0, (), CHAINS).with_findings(findings)


def test_a_whole_run_has_nothing_to_do():
    assert str(report()).endswith("9 values read.\nAll is as it was written.")
    assert report().ok


def test_damage_is_restored_from_a_copy():
    shown = str(report(Finding("posterior/x/c.0", "it is missing", 0, (0, 10))))
    assert "Restore what is damaged from a copy." in shown
    assert "chain 0: 20 of 30 recorded draws, all but draws 0 to 9" in shown


def test_draws_that_differ_when_repeated_are_not_called_damage_of_the_store():
    shown = str(report(Finding(REPLAY, "x differs", 1, (5, 6))))
    assert "Every value agrees with its checksum" in shown
    assert "Restore what is damaged" not in shown
    assert not report(Finding(REPLAY, "x differs", 1, (5, 6))).ok


def test_with_both_the_store_is_restored():
    both = report(Finding(REPLAY, "x differs", 1, (5, 6)), Finding("zarr.json", "cut off"))
    assert "Restore what is damaged from a copy." in str(both)


def test_lost_ranges_are_merged_and_end_with_what_is_recorded():
    found = report(
        Finding("a", "missing", 0, (5, 12)),
        Finding("b", "missing", 0, (10, 20)),
        Finding("c", "missing", 0, (28, 40)),
        Finding("d", "missing", 1),
        Finding("e", "no damage", 1, (0, 40), is_damage=False),
    )
    assert [chain.lost for chain in found.chains] == [((5, 20), (28, 30)), ((0, 40),)]
    assert [chain.n_intact for chain in found.chains] == [13, 0]
