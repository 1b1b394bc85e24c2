"""The classes of fields, by the names of their kinds in the store."""

from typing import Any

from checkpoint.adapters.fields import (
    ArrayField,
    EstimatorField,
    Field,
    NumbersField,
    ScalarField,
    TextField,
    VaryingField,
)
from checkpoint.adapters.generator_field import GeneratorField
from checkpoint.adapters.growing import GrowingField
from checkpoint.adapters.mass_matrix import DiagonalField

__all__ = ["field_from_json"]

_KINDS: dict[str, type[Field]] = {
    cls.kind: cls
    for cls in (
        ScalarField,
        ArrayField,
        NumbersField,
        GrowingField,
        GeneratorField,
        EstimatorField,
        TextField,
        VaryingField,
        DiagonalField,
    )
}


def field_from_json(document: dict[str, Any]) -> Field:
    """Return the field that `Field.to_json` described."""
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
    }
    cls: Any = _KINDS[values.pop("kind")]
    field: Field = cls(**values)
    return field
