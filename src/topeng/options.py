"""Declares each option once, with its default, rules, help, unit and source.

Options are fields of frozen dataclasses that are checked when they are made, so that a recipe, a flag and a Python call
follow the same rules.
"""

import dataclasses
import difflib
import math
import operator
import re
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from topeng.errors import RecipeError

RULES: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "below"),
}
Kind = TypeVar("Kind", bound="Options")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
LARGEST = 2**53
"""Largest whole number of an option. Up to here floats are exact, and no count comes near it."""
SECRET = re.compile(r"://[^/?#\s]*@|[?&](?:token|key|sig|password|[\w-]*(?:_token|_key|-signature))=", re.IGNORECASE)
"""A password or a token in an address."""


def option(
    default: Any, help: str, *, unit: str = "", source: str = "", cost: bool = False, new: bool = False, **rules: float
) -> Any:
    """An option with its default. A callable default is called for each instance (`list`, or a class of options).

    Args:
        default: the value without a recipe.
        help: what it does, in one line.
        unit: unit of the value, if it has one.
        source: the paper or measurement behind the default.
        cost: whether it only changes time, memory or progress messages, and results at most by rounding.
        new: whether earlier versions without it did what its default does, so that their results stay valid.
        rules: bounds of a number: `ge`, `gt`, `le`, `lt`.
    """
    metadata = {"help": help, "unit": unit, "source": source, "cost": cost, "rules": rules}
    metadata |= {"since": default} if new else {}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class OptionError(RecipeError):
    """A value that breaks a rule, at a place such as `adapter.rank`."""

    def __init__(self, place: str, rule: str) -> None:
        super().__init__(f"{place} {rule}" if place else rule)
        self.place, self.rule = place, rule


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of all groups of options. Values are checked, and converted if nothing is lost."""

    def __post_init__(self) -> None:
        """
        Raises:
            OptionError: a value is ill-typed or out of bounds.
        """
        kinds = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _convert(getattr(self, field.name), kinds[field.name], field.name)
            _check_bounds(value, field.metadata["rules"], field.name)
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Options from nested plain values. Options that are left out have their defaults.

        Raises:
            OptionError: a name is unknown, or a value is ill-typed or out of bounds.
        """
        for name in values:
            if name not in cls.__dataclass_fields__:
                raise OptionError(str(name), f"is not an option. Options are {', '.join(cls.__dataclass_fields__)}.")
        return cls(**values)


def results(options: Any) -> dict[str, Any]:
    """Nested plain values of everything in options, or in a slice of them, on which a result may depend.

    Fields with `cost` are left out, and so are fields whose value is that of `since`, the only one in earlier versions.
    """
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if not (field.metadata.get("cost") or field.metadata.get("since", dataclasses.MISSING) == value):
            values[field.name] = results(value) if dataclasses.is_dataclass(value) else value
    return values


def narrow(options: Any, kind: type[Kind]) -> Kind:
    """The options of a group that one of its base classes declares.

    A stage gets no other options, so it cannot depend on one that its fingerprint omits.
    """
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def _convert(value: Any, kind: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, place)
    if origin is Literal:
        return _convert_choice(value, arguments, place)
    if origin is list:
        example = value if isinstance(value, str) and value.isalnum() else "a, b"
        _expect(isinstance(value, list | tuple), value, f"a list, such as [{example}]", place)
        return [_convert(item, arguments[0], place) for item in value]
    if origin is dict:
        _expect(isinstance(value, Mapping), value, "a mapping, such as {a: 1}", place)
        return {str(name): _convert(item, arguments[1], f"{place}.{name}") for name, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Options):
        return _convert_group(value, kind, place)
    return _convert_scalar(value, kind, place)


def _convert_group(value: Any, kind: type[Options], place: str) -> Options:
    if isinstance(value, kind):
        return value
    _expect(isinstance(value, Mapping), value, "a section of options", place)
    try:
        return kind.from_values(value)
    except OptionError as error:
        raise OptionError(f"{place}.{error.place}" if error.place else place, error.rule) from None


def _convert_union(value: Any, kinds: tuple[Any, ...], place: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    failure = None
    for kind in sorted(kinds, key=lambda kind: get_origin(kind) is not dict) if isinstance(value, Mapping) else kinds:
        try:
            return _convert(value, kind, place)
        except OptionError as error:
            failure = failure or error
    raise failure or AssertionError(kinds)


def _convert_choice(value: Any, choices: tuple[Any, ...], place: str) -> Any:
    if value not in choices:
        near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise OptionError(place, f"= {_shown(value)} must be one of {', '.join(repr(c) for c in choices)}{hint}")
    return value


def _convert_scalar(value: Any, kind: Any, place: str) -> Any:
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = float(value)  # YAML reads 1e-4 as text
    if isinstance(value, float):
        _expect(math.isfinite(value), value, "a finite number", place)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    _expect(fits, value, NAMES.get(kind, str(kind)), place)
    if kind is int:
        _expect(abs(value) <= LARGEST, value, "a whole number of at most 16 digits", place)
    if kind is str:
        _check_text(value, place)
    return value


def _check_text(text: str, place: str) -> None:
    """Rejects secrets, because recipes are copied into manifests and reports, which people share."""
    if SECRET.search(text):
        raise OptionError(
            place,
            "contains a password or a token, which would be visible in the run folder. Set it in the environment "
            "(HF_TOKEN for hf://), or download the files and name those.",
        )
    whole = "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    _expect(whole, text, "text without NUL characters and unpaired surrogates", place)


def _check_bounds(value: Any, rules: Mapping[str, float], place: str) -> None:
    for name, bound in rules.items():
        holds, words = RULES[name]
        if value is not None and not holds(value, bound):
            raise OptionError(place, f"= {_shown(value)} must be {words} {bound}")


def _expect(fits: bool, value: Any, wanted: str, place: str) -> None:
    if not fits:
        raise OptionError(place, f"= {_shown(value)} must be {wanted}")


def _shown(value: Any) -> str:
    """A value for a message, on one line and not too long."""
    return _SHORT.repr(value)


def meant(name: str, known: Sequence[str]) -> str:
    """A suggestion for an unknown name: the closest known one, or the list of all."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
