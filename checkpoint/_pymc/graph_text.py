"""Readable texts of the expressions in a model's graph, by which graphs are compared.

An expression is expanded down to the named variables of the model, constants and shared variables.
Long parts are shortened to their beginning and a digest of the whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pymc.logprob.abstract import _logprob
from pymc.model import Model
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph, Op
from pytensor.graph.type import Type
from pytensor.scalar.basic import ScalarOp
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.random.op import RandomVariable

from checkpoint._pymc.python_text import (
    PythonText,
    digest_of,
    is_library,
    marks_of,
    shortened,
    without_marks,
)

__all__ = ["GraphText"]

_SIGNS = {"Add": " + ", "Mul": " * ", "Sub": " - ", "TrueDiv": " / ", "Pow": " ** "}

_NO_SETTING = frozenset(
    ["name", "inplace", "signature", "extended_signature", "is_inline", "destroy_map", "view_map",
     "kwargs", "allow_gc", "profile", "default_output", "nfunc_spec", "ufunc", "input_ndim",
     "acc_dtype", "upcast_discrete_output"]
)  # fmt: skip
"""Attributes of Ops that do not affect what they compute, or that repeat others."""

_REDUCTIONS = frozenset(["Sum", "Prod", "Max", "Min", "All", "Any"])


class GraphText:
    """Texts of the expressions in one graph.

    Parameters
    ----------
    names : mapping of Variable to str
        Variables that are described elsewhere; an expression ends at them.
    """

    def __init__(self, names: Mapping[Any, str]) -> None:
        self._names = names
        self._texts: dict[Any, str] = {}
        self._values = PythonText(self._special)
        self._ops: dict[int, tuple[Op, str, str]] = {}

    def expression(self, variable: Any) -> str:
        """Return the expression of a variable as text, or its name if it has one."""
        stack = [variable]
        while stack:
            current = stack[-1]
            missing = [v for v in self._inputs(current) if v not in self._texts]
            if current not in self._texts and missing:
                stack.extend(missing)
                continue
            if current not in self._texts:
                self._texts[current] = shortened(self._text(current))
            stack.pop()
        return self._texts[variable]

    def definition(self, variable: Any) -> str:
        """Return the definition of a named variable: its expression or its distribution."""
        if variable.owner is None:
            return self._leaf(variable)
        for given in variable.owner.inputs:
            self.expression(given)
        text = self._node(variable, with_size=False)
        return text[1:-1] if text.startswith("(") and text.endswith(")") else text

    def value(self, value: Any) -> str:
        """Return the text of a Python value, such as a transform."""
        return self._values.of(value)

    def _inputs(self, variable: Any) -> Sequence[Any]:
        is_end = variable in self._names or variable.owner is None
        return () if is_end else variable.owner.inputs

    def _text(self, variable: Any) -> str:
        if variable in self._names:
            return self._names[variable]
        return self._leaf(variable) if variable.owner is None else self._node(variable)

    def _leaf(self, variable: Any) -> str:
        if _is_generator(variable):
            return "generator"
        if isinstance(variable, Constant):
            return self._values.of(variable.data)
        if isinstance(variable, SharedVariable):
            return f"shared {self._values.of(variable.get_value(borrow=True))}"
        return f"input of {variable.type}"

    def _node(self, variable: Any, with_size: bool = True) -> str:
        node = variable.owner
        name = type(node.op).__name__
        if isinstance(node.op, Elemwise):
            return self._elementwise(node)
        if _is_random(node.op):
            return self._random(node, with_size)
        if name == "ViewOp":  # the same variable under another name
            return self._texts[node.inputs[0]]
        arguments = ", ".join(self._texts[v] for v in node.inputs if not _is_generator(v))
        text = self._applied(node.op, arguments)
        return text if len(node.outputs) == 1 else f"{text}.{node.outputs.index(variable)}"

    def _random(self, node: Any, with_size: bool) -> str:
        size = _size_of(node)
        given = [v for v in node.inputs if v is not size and not _is_generator(v)]
        is_sized = size is not None and self._texts[size] != "None"
        if is_sized or not with_size:  # the shape is recorded elsewhere
            given = [self._before_expanding(v) for v in given]
        arguments = [self._texts[v] for v in given]
        if with_size and is_sized:
            arguments.append(f"size={self._texts[size]}")
        return self._applied(node.op, ", ".join(arguments))

    def _elementwise(self, node: Any) -> str:
        scalar = node.op.scalar_op
        ends = [self._before_expanding(v) for v in node.inputs]
        is_needed = all(end is not v for end, v in zip(ends, node.inputs, strict=True))
        given = [self._texts[v] for v in (node.inputs if is_needed else ends)]
        name = type(scalar).__name__
        if name in _SIGNS:
            return f"({_SIGNS[name].join(given)})"
        return given[0] if name == "Identity" else self._applied(scalar, ", ".join(given))

    def _before_expanding(self, variable: Any) -> Any:
        """Return a variable without the dimensions that were added on its left."""
        node = variable.owner
        if variable in self._names or node is None or not isinstance(node.op, DimShuffle):
            return variable
        order, n = list(node.op.new_order), node.inputs[0].type.ndim
        is_left = len(order) > n and order == ["x"] * (len(order) - n) + list(range(n))
        return node.inputs[0] if is_left else variable

    def _applied(self, op: Any, arguments: str) -> str:
        """Return the text of an Op applied to its arguments."""
        if id(op) not in self._ops:
            self._ops[id(op)] = op, *self._describe_op(op)
        _, before, after = self._ops[id(op)]
        return f"{before}({arguments}){after}"

    def _describe_op(self, op: Any) -> tuple[str, str]:
        """Return the description of an Op: the text before and the text after its arguments."""
        cls = type(op)
        name = cls.__name__.removesuffix("RV")
        if isinstance(op, ScalarOp):
            name = name[:1].lower() + name[1:]
        parts, after = [self._class(cls), self._settings(op)], ""
        if isinstance(op, HasInnerGraph):
            inner = self._inner(op.fgraph)
            if _is_made(cls) or not is_library(cls.__module__):
                parts.append(inner)
            else:
                after = shortened(f"#{digest_of(without_marks(inner))[:8]}{marks_of(inner)}")
        text = ", ".join(part for part in parts if part)
        return (f"{name}{{{shortened(text)}}}" if text else name), after

    def _class(self, cls: type) -> str:
        """Return the code of an Op's class as text; empty if the class is of a library."""
        is_made = _is_made(cls)
        if not is_made and is_library(cls.__module__):
            return ""
        parts = []
        if not is_made:
            parts.append(self._values.of(cls))
        elif "Symbolic" not in cls.__mro__[1].__name__:
            said = {name: vars(cls)[name] for name in sorted(vars(cls)) if _is_said(cls, name)}
            parts.append(self._values.settings(said))
        if (logp := _logprob.dispatch(cls)) is not _logprob.dispatch(cls.__mro__[1]):
            parts.append(f"logp={self._values.of(_innermost(logp))}")
        return ", ".join(part for part in parts if part)

    def _settings(self, op: Any) -> str:
        if isinstance(op, HasInnerGraph):
            said = {
                name: value
                for name, value in vars(op).items()
                if name == "info"
                or name.endswith("overrides")
                or (isinstance(value, int | float | str) and not name.startswith("_"))
            }
        elif (props := getattr(op, "__props__", None)) is not None:
            said = {name: getattr(op, name) for name in props}
            if isinstance(op, RandomVariable):
                said.pop("dtype", None)
            if type(op).__name__ in _REDUCTIONS:
                said.pop("scalar_op", None)
        elif isinstance(op, ScalarOp):
            said = {name: value for name, value in vars(op).items() if name == "o_type"}
        elif is_library(type(op).__module__):
            said = {name: value for name, value in vars(op).items() if name not in _CACHES}
        else:  # attributes of the user's own Op: they may change while it computes
            return self._values.changeable(self._values.settings(vars(op)))
        return self._values.settings({k: v for k, v in said.items() if k not in _NO_SETTING})

    def _inner(self, graph: Any) -> str:
        inner = GraphText({variable: f"i{i}" for i, variable in enumerate(graph.inputs)})
        return " ".join(["=", *(f"{inner.expression(out)};" for out in graph.outputs)])

    def _special(self, value: Any) -> str | None:
        """Return the text of a value that belongs to the graph; None for other values."""
        if isinstance(value, Variable):
            return self.expression(value)
        if isinstance(value, Op):
            return self._applied(value, "...")
        if isinstance(value, FunctionGraph):
            return digest_of(self._inner(value))
        if isinstance(value, Type):
            return str(value)
        return "model" if isinstance(value, Model) else None


_MADE_FROM = ("CustomDistRV", "CustomSymbolicDistRV", "SimulatorRV")
"""Base classes of the classes that PyMC makes for one variable, around a user's functions."""

_CACHES = frozenset(["_op_use_c_code", "fn", "_fn", "infer_shape"])


def _is_made(cls: type) -> bool:
    return cls.__mro__[1].__name__ in _MADE_FROM


def _is_said(cls: type, name: str) -> bool:
    """Return whether an attribute of a class that PyMC made affects the density."""
    if name in ("name", "inplace", "dtype", "_print_name") or name.startswith(("__", "_abc")):
        return False
    return name != "_random_fn" or cls.__mro__[1].__name__ == "SimulatorRV"


def _innermost(function: Any) -> Any:
    """Return the user's function that PyMC has wrapped in one of its own."""
    names = function.__code__.co_freevars
    return function.__closure__[names.index("logp")].cell_contents if "logp" in names else function


def _is_generator(variable: Any) -> bool:
    return type(variable.type).__name__.startswith("Random")


def _is_random(op: Any) -> bool:
    return isinstance(op, RandomVariable) or hasattr(op, "extended_signature")


def _size_of(node: Any) -> Any:
    try:
        return node.op.size_param(node)
    except Exception:  # Ops without a signature have no size parameter
        return None
