"""What is said of a call that was stopped."""

from types import SimpleNamespace

from checkpoint.runs.interruption import lacking


def records(*n_rows: int):
    return [SimpleNamespace(chain=i, n_rows=n) for i, n in enumerate(n_rows)]


MANIFEST = SimpleNamespace(tune=100)


def test_each_chain_is_named_with_what_it_has():
    assert lacking(MANIFEST, records(300, 150, 40, 0), 300) == (
        "Chain 1 has 50 of 200 draws; chain 2 has 40 of 100 draws of warm-up; chain 3 has no "
        "draws; 1 chain is complete."
    )


def test_many_chains_are_counted():
    text = lacking(MANIFEST, records(*[150] * 1000), 300)
    assert "992 more chains lack draws" in text
    assert len(text) < 500
