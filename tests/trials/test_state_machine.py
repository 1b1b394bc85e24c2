"""Whatever happens to a run, its rows are those of one that nothing happened to."""

import pytest

from torture import state_machine
from torture.report import Effort


@pytest.mark.slow
def test_no_life_of_a_run_goes_wrong(tmp_path):
    [row] = state_machine.trial(Effort.QUICK, 0, tmp_path)
    assert row.broken == []
    assert row.n_tried >= 10


def test_a_wrong_row_is_noticed():
    whole = [{"posterior/x": [b"a", b"b", b"c"]}]
    assert state_machine.wrong_rows([{"posterior/x": [b"a", b"b"]}], whole) == []
    assert state_machine.wrong_rows([{"posterior/x": [b"a", b"c"]}], whole) == [
        "chain 0 posterior/x"
    ]
    assert state_machine.wrong_rows([{"posterior/x": [b"a", b"b", b"c", b"d"]}], whole)
