"""Text of others is shown without what a terminal would obey."""

import pickle
import warnings

import pytest

from checkpoint import errors
from checkpoint.printable import printable

EVIL = "a\x1b[31m\u202eb\x07\n\udc80\u2066"


@pytest.mark.parametrize("text", ["mu", "déjà vu", "温度", "naïve", ""])
def test_text_stays_as_it_is(text):
    assert printable(text) == text


def test_what_is_not_printed_as_itself_is_escaped():
    assert printable(EVIL) == r"a\x1b[31m\u202eb\x07\n\udc80\u2066"
    assert printable(EVIL, lines=True) == "a\\x1b[31m\\u202eb\\x07\n\\udc80\\u2066"
    assert printable(printable(EVIL)) == printable(EVIL)
    for c in map(chr, [*range(32), *range(127, 161), 0x200E, 0x200F, *range(0x202A, 0x202F)]):
        assert printable(c).isprintable()


KINDS = [
    found
    for name in errors.__all__
    if isinstance(found := getattr(errors, name), type)
    and issubclass(found, errors.CheckpointError | errors.CheckpointWarning)
]
"""Not `Preempted`, which has a code and no text."""


def test_what_has_no_text_is_known():
    others = {getattr(errors, name) for name in errors.__all__} - set(KINDS)
    assert {other.__name__ for other in others if isinstance(other, type)} == {"Preempted"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_and_warning_escapes_its_text(kind):
    error = kind(EVIL)
    again = pickle.loads(pickle.dumps(error))
    for text in (str(error), *error.args, str(again)):
        assert text == printable(EVIL, lines=True)
    assert printable(repr(error)) == repr(error)


def test_a_warning_made_of_a_text_is_escaped():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(EVIL, errors.DamageWarning, stacklevel=1)
    assert str(caught[0].message) == printable(EVIL, lines=True)


def test_differences_are_escaped_one_by_one():
    error = errors.DifferentRunError("two differ", [EVIL])
    assert error.differences == [printable(EVIL)]
