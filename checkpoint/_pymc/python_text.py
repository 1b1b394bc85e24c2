"""Describe the Python values in closures and Ops of a model as texts, to compare models.

Equal values have equal texts, in every process and whatever the Python variables are called. Values
that cannot be inspected (objects of extension modules, generators) get the mark `UNKNOWN`. Values
that may change without effect on any draw (attributes of the user's objects, lists in closures:
they may be counters or caches) are hashed into a mark of their own. If only marks differ, the
models may still be the same; see `without_marks`.
"""

import builtins
import dis
import enum
import functools
import hashlib
import re
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

__all__ = [
    "UNKNOWN",
    "PythonText",
    "digest_of",
    "is_library",
    "marks_of",
    "shortened",
    "without_marks",
]

UNKNOWN = "<~?>"
"""The mark of a value that cannot be inspected."""

_MARK = re.compile(r"<~(?:\?|[0-9a-f]{8})>")
_SHOWN = 160
"""Characters of a text that are kept when it is part of another one."""
_SMALL = 8
"""Items of an array that are shown."""
_DEEPEST = 40
_PATHS = tuple(
    {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def digest_of(text: str) -> str:
    """Return a short text that differs when the texts do."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def without_marks(text: str) -> str:
    """Return a text without its marks, which decide nothing."""
    return _MARK.sub("", text)


def shortened(text: str, n_shown: int = _SHOWN) -> str:
    """Return a text; if it is long, its beginning, a digest of the whole, and one mark."""
    if len(text) <= n_shown:
        return text
    certain = without_marks(text)
    return f"{certain[: max(n_shown - 40, 16)]}... #{digest_of(certain)}{marks_of(text)}"


def marks_of(text: str) -> str:
    """Return the marks in a text as one mark, or an empty text."""
    marks = _MARK.findall(text)
    return "" if not marks else UNKNOWN if UNKNOWN in marks else _mark("".join(marks))


def is_library(module: str | None) -> bool:
    """Return whether a module is installed, so that its version stands for its code."""
    if module is None or module in sys.builtin_module_names:
        return True
    top = sys.modules.get(module.split(".")[0])
    file = getattr(top, "__file__", None) or next(iter(getattr(top, "__path__", ())), None)
    if top is None or module.split(".")[0] == "__main__":
        return False
    return file is None or "-packages" in file or file.startswith(_PATHS)


def _mark(text: str) -> str:
    return f"<~{digest_of(text)[:8]}>"


class PythonText:
    """Texts of values.

    Parameters
    ----------
    special : callable
        Returns the text of values of the model's graph, and None for others.
    """

    def __init__(self, special: Callable[[Any], str | None]) -> None:
        self._special = special
        self._open: list[int] = []  # what is being described, from the outside to the inside

    def of(self, value: Any) -> str:
        """Return the text of a value."""
        if id(value) in self._open and not isinstance(value, str | int | float | None):
            return "itself"
        if len(self._open) > _DEEPEST:
            return UNKNOWN
        self._open.append(id(value))
        try:
            return self._of(value)
        finally:
            self._open.pop()

    def _of(self, value: Any) -> str:
        if value is None or value is Ellipsis or isinstance(value, bool | int | str | bytes):
            return shortened(repr(value)) if not isinstance(value, enum.Enum) else str(value)
        if isinstance(value, float | complex | np.number):
            return _number(value)
        if isinstance(value, np.ndarray | np.generic):
            return self.of_array(np.asarray(value))
        found = self._special(value)
        if found is not None:
            return found
        for kinds, describe in _KINDS:
            if isinstance(value, kinds):
                return shortened(describe(self, value))
        return shortened(self._of_object(value))

    def of_array(self, array: np.ndarray[Any, Any]) -> str:
        """Return the items of a small array, or dtype, shape and digest."""
        if array.dtype.kind == "O":
            items = [self.of(item) for item in array.ravel().tolist()]
            return shortened(f"{list(array.shape)} of {', '.join(items)}")
        if array.size <= _SMALL and array.dtype.kind in "biufc":
            return _nested(array)
        data = np.ascontiguousarray(array).tobytes()
        digest = hashlib.sha256(data).hexdigest()[:16]
        return f"{array.dtype} {list(array.shape)} #{digest}"

    def settings(self, values: Mapping[str, Any]) -> str:
        """Return named values as text, without those that are None."""
        items = [f"{name}={self.of(value)}" for name, value in values.items() if value is not None]
        return ", ".join(items)

    def changeable(self, text: str) -> str:
        """Return the mark for a text that may change without effect on the draws."""
        return UNKNOWN if UNKNOWN in text else _mark(text)

    def _of_list(self, value: Any) -> str:
        items = ", ".join(map(self.of, value))
        return f"[{items}]" if isinstance(value, list) else f"({items})"

    def _of_set(self, value: Any) -> str:
        return f"set({', '.join(sorted(map(self.of, value)))})"

    def _of_dict(self, value: Any) -> str:
        items = sorted(f"{self.of(key)}: {self.of(item)}" for key, item in value.items())
        return f"dict({', '.join(items)})"

    def _of_partial(self, value: Any) -> str:
        return f"partial({self.of(value.func)}, {self.of(value.args)}, {self.of(value.keywords)})"

    def _of_method(self, value: Any) -> str:
        return f"{self.of(value.__func__)} of {self.of(value.__self__)}"

    def _of_builtin(self, value: Any) -> str:
        owner = getattr(value, "__self__", None)
        text = f"{value.__module__}.{getattr(value, '__qualname__', value.__name__)}"
        is_bound = owner is not None and not isinstance(owner, types.ModuleType | type)
        return f"{text} of {self.of(owner)}" if is_bound else text

    def _of_class(self, value: type) -> str:
        name = f"{value.__module__}.{value.__qualname__}"
        return name if is_library(value.__module__) else f"class {self._code_of_class(value)}"

    def _code_of_class(self, cls: type) -> str:
        """Return a digest of a user's class: its bases and the attributes it defines."""
        parts = []
        for name, value in sorted(vars(cls).items()):
            if name in _NOT_OF_A_CLASS or name.startswith("_abc"):
                continue
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            if isinstance(value, property):
                value = value.fget
            parts.append(f"{name}={self.of(value)}")
        bases = [self.of(base) for base in cls.__bases__]
        return f"#{digest_of('; '.join([*bases, *map(without_marks, parts)]))}"

    def _of_object(self, value: Any) -> str:
        """Return class and attributes; a mark for those of the user's objects, which may change."""
        function = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
        if isinstance(function, types.FunctionType):
            return self.of_function(function)
        cls = type(value)
        if cls.__module__.split(".")[0] in ("pandas", "xarray", "polars"):
            return f"{cls.__name__} {self._of_table(value)}"
        name = cls.__name__ if is_library(cls.__module__) else self.of(cls)
        attributes = attributes_of(value)
        if attributes is None:
            return f"{name}{UNKNOWN}"
        text = self.settings(attributes)
        if not is_library(cls.__module__):
            return name + self.changeable(text)
        return f"{name}({text})" if text else name

    def _of_table(self, value: Any) -> str:
        if hasattr(value, "columns"):
            return ", ".join(f"{self.of(c)}: {self.of(np.asarray(value[c]))}" for c in value)
        return self.of(np.asarray(value))

    def of_function(self, function: types.FunctionType) -> str:
        """Return the text of a function: its code, its defaults, and the outer values it uses."""
        cells = function.__closure__ or ()
        is_known = is_library(function.__module__)
        if is_known and not cells and "<" not in function.__qualname__:
            return f"{function.__module__}.{function.__qualname__}"
        outer = {}
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
            try:
                outer[name] = self._of_outer(cell.cell_contents)
            except ValueError:
                outer[name] = "nothing yet"
        if is_known:
            inside = ", ".join(f"{name}={text}" for name, text in outer.items())
            return f"{function.__module__}.{function.__qualname__}({inside})"
        scope = _Scope(self, outer, function.__globals__)
        text = scope.of_code(function.__code__)
        defaults = (function.__defaults__, function.__kwdefaults__)
        text += f" defaults {self.of(defaults[0])} {self.of(defaults[1] or None)}"
        return f"code #{digest_of(without_marks(text))}{marks_of(text)}"

    def _of_outer(self, value: Any) -> str:
        """Return the text of an outer value that a function uses; a mark if it is mutable."""
        text = self.of(value)
        return self.changeable(text) if isinstance(value, list | dict | set) else text

    def of_global(self, name: str, namespace: Mapping[str, Any]) -> str:
        """Return the text of a global or builtin name."""
        if name in namespace:
            return self._of_outer(namespace[name])
        return f"builtin {name}" if hasattr(builtins, name) else "nothing"


def attributes_of(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object by name, or None if they cannot be read."""
    names = [name for cls in type(value).__mro__ for name in _slots(cls)]
    if not hasattr(value, "__dict__") and not names and type(value).__module__ != "builtins":
        return None
    found = dict(getattr(value, "__dict__", {}))
    found |= {name: getattr(value, name) for name in names if hasattr(value, name)}
    return {name: found[name] for name in sorted(found) if not name.startswith("__")}


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]


class _Scope:
    """A function's code, with names resolved to what they stand for."""

    def __init__(
        self, values: PythonText, outer: Mapping[str, str], namespace: Mapping[str, Any]
    ) -> None:
        self._values = values
        self._outer = outer
        self._globals = namespace

    def of_code(self, code: types.CodeType) -> str:
        """Return the instructions, with local names as numbers in the order of their use."""
        instructions = [i for i in dis.get_instructions(code) if i.opname not in _NO_WORK]
        assigned = {i.argval for i in instructions if i.opname in ("STORE_DEREF", "STORE_GLOBAL")}
        local: dict[str, int] = {}
        for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            local.setdefault(name, len(local))
        parts = [f"{code.co_argcount} {code.co_flags & 0x0C}"]
        for at, instruction in enumerate(instructions):
            name = instruction.opname
            text = self._argument(instruction, local)
            if instruction.argval in assigned and instruction.argval not in local:
                text = _mark(text)
            if name.startswith(("LOAD_ATTR", "LOAD_METHOD")) and at:
                text += self._attribute(instructions[at - 1], instruction.argval)
            parts.append(f"{name} {text}")
        return "\n".join(parts)

    def _argument(self, instruction: dis.Instruction, local: dict[str, int]) -> str:
        value, name = instruction.argval, instruction.opname
        if isinstance(value, types.CodeType):
            return f"({self.of_code(value)})"
        if name.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
            return self._values.of_global(value, self._globals)
        if "FAST" in name or "DEREF" in name or name in ("LOAD_CLOSURE", "MAKE_CELL"):
            names = value if isinstance(value, tuple) else (value,)
            return ", ".join(self._name(each, local) for each in names)
        if "CONST" in name or name == "KW_NAMES":
            return self._values.of(value)
        return value if isinstance(value, str) else repr(instruction.arg)

    def _name(self, name: str, local: dict[str, int]) -> str:
        if name in self._outer and name not in local:
            return self._outer[name]
        return f"local {local.setdefault(name, len(local))}"

    def _attribute(self, owner: dis.Instruction, name: str) -> str:
        """Return the text of an attribute of a user's module; empty for other owners."""
        module = self._globals.get(owner.argval) if owner.opname == "LOAD_GLOBAL" else None
        if not isinstance(module, types.ModuleType) or is_library(module.__name__):
            return ""
        return f" {self._values.of(getattr(module, name, None))}"


_NO_WORK = ("RESUME", "CACHE", "NOP", "COPY_FREE_VARS", "PRECALL", "EXTENDED_ARG")

_NOT_OF_A_CLASS = frozenset(
    ["__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__",
     "__static_attributes__", "__annotations__", "__annotate__", "__slots__", "__classcell__"]
)  # fmt: skip


def _number(value: Any) -> str:
    """Return a number as text, 1.0 as 1: both make the same model."""
    if isinstance(value, complex | np.complexfloating):
        return repr(complex(value))
    if isinstance(value, np.integer | int):
        return repr(int(value))
    number = float(value)
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _nested(array: np.ndarray[Any, Any]) -> str:
    if array.ndim == 0:
        item = array[()]
        return repr(bool(item)) if array.dtype.kind == "b" else _number(item)
    return f"[{', '.join(_nested(item) for item in array)}]"


_KINDS: tuple[tuple[Any, Callable[[PythonText, Any], str]], ...] = (
    (enum.Enum, lambda _, value: str(value)),
    (np.dtype, lambda _, value: f"dtype {value}"),
    (types.ModuleType, lambda _, value: f"module {value.__name__}"),
    (types.FunctionType, PythonText.of_function),
    (types.MethodType, PythonText._of_method),
    ((types.BuiltinFunctionType, np.ufunc), PythonText._of_builtin),
    (functools.partial, PythonText._of_partial),
    (type, PythonText._of_class),
    (dict | types.MappingProxyType, PythonText._of_dict),
    (set | frozenset, PythonText._of_set),
    (list | tuple, PythonText._of_list),
    (slice | range, lambda _, value: repr(value)),
    (types.CodeType, lambda self, value: _Scope(self, {}, {}).of_code(value)),
    (np.random.Generator | np.random.RandomState, lambda _, value: f"generator{UNKNOWN}"),
)
