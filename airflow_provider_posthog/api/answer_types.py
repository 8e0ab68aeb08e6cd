"""What an answer must look like, by the type that its endpoint declares: the one place where PostHog's JSON is trusted.

After this check, code reads fields without checking them again. Fields that a type does not name pass, and so do those
that are missing or null: servers of several generations are in use. A field that is there and is of another kind (a
list for an object, a text for a number) would end as an error of Python's somewhere else, or be taken for an answer.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

#: Says what is wrong with a value; ``None`` if nothing is.
Check = Callable[[Any, str], str | None]
#: Ids and counts fit into 64 bits. A larger number is not PostHog's, and breaks whatever computes with it.
_MOST = 2**64
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def check_of(hint: Any) -> Check | None:  # noqa: ANN401 - a type
    """Return the check for values of a declared type; ``None`` if any value will do.

    :param hint: the type: a ``TypedDict``, a ``Sequence``, ``Mapping``, ``Literal``, ``Union``, or one of JSON's own.
    """
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _one_of([arm for arm in typing.get_args(hint) if arm is not type(None)])
    if origin is Literal:  # a word that is not known yet is not a fault
        return _scalar(type(typing.get_args(hint)[0]))
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    kind = origin or hint
    if kind in (list, Sequence):
        return _items(typing.get_args(hint))
    if kind in (dict, Mapping):
        return _values(typing.get_args(hint))
    return _scalar(kind) if kind in (str, bool, int, float) else None


def _fault(value: object, where: str, *expected: type) -> str:
    named = " or ".join(dict.fromkeys(_KINDS[kind] for kind in expected))
    return f"{where or 'it'} is {_KINDS.get(type(value), 'something else')}, not {named}"


def _scalar(kind: type) -> Check:
    def check(value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
        if value is None or type(value) is kind:
            in_range = not isinstance(value, (int, float)) or (math.isfinite(value) and abs(value) < _MOST)
            return None if in_range else f"{where or 'it'} is a number of an impossible size"
        if kind is float and type(value) is int:
            return None if abs(value) < _MOST else f"{where or 'it'} is a number of an impossible size"
        return _fault(value, where, kind)

    return check


@functools.cache
def _typed_dict(hint: Any) -> Check:  # noqa: ANN401 - a TypedDict
    fields = {name: check_of(kind) for name, kind in typing.get_type_hints(hint).items()}
    checks = {name: field for name, field in fields.items() if field is not None}
    if typing.get_type_hints(hint).get("id") is str:
        checks["id"] = _any_of(
            [_scalar(str), _scalar(int)]
        )  # what newer servers identify by a UUID was a number on older ones

    def check(value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
        if value is None:
            return None
        if not isinstance(value, dict):
            return _fault(value, where, dict)
        for name, field in checks.items():
            if name in value and (fault := field(value[name], f"{where}.{name}" if where else name)) is not None:
                return fault
        return None

    return check


def _items(arguments: tuple[Any, ...]) -> Check:
    item = check_of(arguments[0]) if arguments else None

    def check(value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
        if value is None:
            return None
        if not isinstance(value, list):
            return _fault(value, where, list)
        if item is None:
            return None
        inside = f"{where}[]"
        return next((fault for entry in value if (fault := _there(item, entry, inside)) is not None), None)

    return check


def _values(arguments: tuple[Any, ...]) -> Check:
    of_value = check_of(arguments[1]) if arguments else None

    def check(value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
        if value is None:
            return None
        if not isinstance(value, dict):
            return _fault(value, where, dict)
        if of_value is None:
            return None
        inside = f"{where}.*"  # a key may be somebody's name
        return next((fault for entry in value.values() if (fault := _there(of_value, entry, inside)) is not None), None)

    return check


def _there(check: Check, value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
    """Check one entry of several, which must not be null: a list can leave entries out."""
    return f"{where} is null" if value is None else check(value, where)


def _one_of(arms: Sequence[Any]) -> Check | None:
    checks = [check_of(arm) for arm in arms]
    known = [check for check in checks if check is not None]
    if len(known) != len(arms):
        return None
    return known[0] if len(known) == 1 else _any_of(known)


def _any_of(known: Sequence[Check]) -> Check:
    def check(value: Any, where: str) -> str | None:  # noqa: ANN401 - JSON
        faults = [arm(value, where) for arm in known]
        return None if None in faults else faults[0]

    return check
