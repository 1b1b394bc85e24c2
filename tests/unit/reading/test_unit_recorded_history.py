"""What is known of a last session that has no end."""

import json
from dataclasses import replace

import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.format import layout
from checkpoint.hierarchy.sessions import History, Session, encode_history
from checkpoint.reading.recorded_history import history_now
from checkpoint.recording.recovery import recover_all
from checkpoint.stores import as_store
from checkpoint.stores.holder import Holder
from random_walk import StopAfter, begin_run, tasks_of

SESSION = Session(1e9, "node", 7, {}, 2, 0.0, 4)
HOLDER = Holder.this_process()


@pytest.mark.parametrize(
    ("holder", "how", "has_ended"),
    [
        (None, "killed", True),
        (HOLDER, "", False),
        (replace(HOLDER, started="1"), "killed", True),
        (replace(HOLDER, machine="another"), "unknown", False),
    ],
)
def test_a_session_without_an_end_is_judged_by_its_process(holder, how, has_ended):
    store = as_store(MemoryStore())
    manifest = begin_run(store)
    for task in tasks_of(store, manifest, n_rows=5):
        run_chain(task, StopAfter())
    store.write(encode_history(History().with_session(SESSION)))
    if holder is not None:
        store.write({layout.CLAIM: json.dumps(holder.to_json()).encode()})
    last = history_now(store, recover_all(store, manifest)).last
    assert (last.how, last.has_ended, last.n_gained) == (how, has_ended, 6)
