"""Numbers of a state come back with the value and the type that they had at each draw."""

from types import SimpleNamespace

import numpy as np
import pytest

from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.declared import StepAdapter
from checkpoint.adapters.fields import ArrayField, ScalarField, VaryingField
from checkpoint.adapters.growing import GrowingField
from checkpoint.adapters.scalar_types import column_dtype
from checkpoint.errors import UnsupportedStepError
from checkpoint.recording.buffer import RowBuffer

FLOATS = [0.1, np.float32(0.1), np.float64(0.1), np.float16(0.1), -0.0, np.float32("nan"), 1e300]
INTS = [3, np.int64(-4), np.int8(5), 1 << 61, True, np.bool_(True)]


def recorded(field, values, path="x"):
    """Return what a field of a step method is restored to, for each of the values it had."""
    adapter = StepAdapter(AdapterSchema(0, "fake", (field,)))
    buffer = RowBuffer(adapter.schema.columns, len(values), 0)
    step = SimpleNamespace(**{path: values[0]})
    adapter.attach(step, buffer.data)
    for row, value in enumerate(values):
        setattr(step, path, value)
        adapter.take(row)
    buffer.n_rows = len(values)
    adapter.settle(0, len(values))
    again = StepAdapter(AdapterSchema.from_json(adapter.schema.to_json(), {}))
    return [getattr(again.restore(SimpleNamespace(), buffer, i), path) for i in range(len(values))]


def same(a, b):
    return type(a) is type(b) and np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("values", [FLOATS, FLOATS[::-1], INTS, [2, 3.0, np.float32(4)], [True, 1]])
def test_a_number_keeps_its_type_whatever_the_first_was(values):
    field = ScalarField("x", column_dtype(values[0]), type(values[0]).__name__, type_idx=0)
    found = recorded(field, values)
    assert all(map(same, found, values)), list(zip(found, values, strict=True))


def test_an_array_without_dimensions_stays_one():
    values = [np.array(0.1, "f4"), np.float32(0.2), np.array(0.3)]
    found = recorded(ScalarField("x", "<f8", "float32", type_idx=0), values)
    assert all(map(same, found, values))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("<i8", 0.5), ("|b1", 2), ("<f8", (1 << 53) + 1), ("<f8", "text"), ("<f8", 1j)],
)
def test_what_does_not_fit_is_refused_and_not_cast(dtype, value):
    with pytest.raises(UnsupportedStepError, match="'x'"):
        recorded(ScalarField("x", dtype, "int", type_idx=0), [value])


def test_items_of_a_list_keep_their_types():
    items = [np.float32(0.1), np.float64(0.1), 0.1]
    lists = [[], items[:1], items[:2], items]
    found = recorded(GrowingField("x", "<f8", (), never_read=False, type_idx=0), lists)
    assert [len(one) for one in found] == [0, 1, 2, 3]
    assert all(map(same, found[-1], items))


def test_an_array_of_another_type_is_refused_and_not_cast():
    with pytest.raises(UnsupportedStepError, match="float64"):
        recorded(ArrayField("x", "<f4", (2,)), [np.zeros(2, "f4"), np.zeros(2)])
    with pytest.raises(UnsupportedStepError, match="float64"):
        recorded(VaryingField("x", "<f4", 2), [np.zeros(1, "f4"), np.zeros(2)])


def test_a_field_from_before_types_were_kept_reads_as_it_did():
    found = recorded(ScalarField("x", "<f4", "float32"), [np.float32(0.1), np.float32(0.2)])
    assert all(map(same, found, [np.float32(0.1), np.float32(0.2)]))
