"""All kinds of fields, by the name the store knows them by."""

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
    )
}


def field_from_json(document: dict[str, Any]) -> Field:
    """Return the field that `Field.to_json` described."""
    values: dict[str, Any] = {k: tuple(v) if k == "shape" else v for k, v in document.items()}
    cls: Any = _KINDS[values.pop("kind")]
    field: Field = cls(**values)
    return field
