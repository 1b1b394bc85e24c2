"""Arrays of other libraries have the plain form of numpy's."""

import numpy as np

from checkpoint.format import plain


class Foreign:
    """What JAX's arrays have in common with others."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_an_array_of_another_library_becomes_one_of_numpy():
    found = plain.loads(plain.dumps({"q": Foreign([1.0, 2.0]), "n": [Foreign(3)]}))
    assert found["q"].tolist() == [1.0, 2.0]
    assert found["n"][0].shape == ()
