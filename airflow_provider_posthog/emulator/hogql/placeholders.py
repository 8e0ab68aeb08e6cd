"""Puts values in the place of ``{placeholders}``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

from airflow_provider_posthog.emulator.hogql.ast import (
    Call,
    Compare,
    Constant,
    Dict,
    Field,
    LimitBy,
    Limits,
    Logic,
    Node,
    Placeholder,
    Select,
    Sequence,
    Tag,
)
from airflow_provider_posthog.emulator.hogql.catalog import Catalog
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.functions import find
from airflow_provider_posthog.emulator.hogql.surveys import SURVEYS
from airflow_provider_posthog.emulator.hogql.values import constant_of

# functions that the app draws, as the tags that they stand for
_DRAWN: dict[str, Callable[[Node], Tag]] = {
    "sparkline": lambda data: Tag("Sparkline", {"data": data}),
    **dict.fromkeys(
        ("recording_button", "recordingButton"),
        lambda session: Tag(
            "RecordingButton", {"sessionId": session, "recordingStatus": Field(["properties", "$recording_status"])}
        ),
    ),
    **dict.fromkeys(
        ("explain_csp_report", "explainCSPReport"),
        lambda properties: Tag("ExplainCSPReport", {"properties": properties}),
    ),
}
# the column that the dates of {filters} are about, by the table
_TIMES = {"events": "timestamp", "logs": "timestamp", "groups": "created_at", "sessions": "$start_timestamp"}


@dataclass(frozen=True)
class Dates:
    """What ``{filters}`` stands for: ISO times that the dates are not before, and before.

    It is given as the value ``filters``.
    """

    start: str | None = None
    end: str | None = None


def walk(node: object) -> Iterator[object]:
    """Yield every part of a tree that has parts of its own.

    :param node: the tree
    """
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from walk(item)
    elif isinstance(node, dict):
        yield from walk(list(node.values()))
    elif is_dataclass(node) and not isinstance(node, type):
        yield node
        for field in fields(node):
            yield from walk(getattr(node, field.name))


def has_offset(tree: Node) -> bool:
    """Return whether an OFFSET stands anywhere in a query.

    :param tree: the query
    """
    return any(isinstance(part, (Limits, LimitBy)) and part.offset is not None for part in walk(tree))


class Filler:
    """Fills the placeholders of a tree, in place, and puts cohorts and tags in words that the rest knows.

    :param values: what they stand for, by name; a :class:`Dates` as ``filters``
    :param catalog: the cohorts and actions that there are
    """

    def __init__(self, values: Mapping[str, object], catalog: Catalog) -> None:
        self.catalog = catalog
        self.dates = values.get("filters", Dates())
        self.values = {name: value for name, value in values.items() if not isinstance(value, Dates)}
        self.selects: list[Select] = []
        self.unbounded = False

    def fill(self, node: Node) -> Node:
        """Fill a tree.

        :param node: the tree
        :returns: the tree, or what takes its place
        :raises HogQLError: for a placeholder that has no value
        """
        part = self._part(node)
        if not isinstance(part, Node):
            raise HogQLError("A query cannot be filled in")
        return part

    def _part(self, part: object) -> object:
        if isinstance(part, list):
            return [self._part(item) for item in part]
        if isinstance(part, tuple):
            return tuple(self._part(item) for item in part)
        if isinstance(part, dict):
            return {key: self._part(item) for key, item in part.items()}
        if isinstance(part, Placeholder):
            return self._value(part.expr)
        if isinstance(part, Compare):
            return self._compare(part)
        if isinstance(part, Call) and (part.name in SURVEYS or part.name == "matchesAction"):
            return self._meant(part)
        if isinstance(part, (Dict, Tag)) or (isinstance(part, Call) and part.name in _DRAWN):
            return self._part(_in_words(part))
        if isinstance(part, Select):
            self.selects.append(part)
            self._fields(part)
            self.selects.pop()
        elif is_dataclass(part) and not isinstance(part, type):
            self._fields(part)
        return part

    def _meant(self, call: Call) -> Node:
        """Replace a call of one of PostHog's own functions by what PostHog writes in its place."""
        find(call.name, newer=True).check(len(call.args))
        if call.name == "matchesAction":
            return self.catalog.matches_action(call, self.selects[-1].source if self.selects else [])
        self._fields(call)
        return SURVEYS[call.name](call.args)

    def _fields(self, part: object) -> None:
        for field in fields(part):  # type: ignore[arg-type]
            value = getattr(part, field.name)
            if isinstance(value, (list, tuple, dict)) or is_dataclass(value):
                setattr(part, field.name, self._part(value))

    def _compare(self, node: Compare) -> Node:
        """Fill a comparison; one with a date that is not set holds always."""
        outside, self.unbounded = self.unbounded, False
        self._fields(node)
        skip, self.unbounded = self.unbounded, outside
        if node.op in ("inCohort", "notInCohort"):
            return self.catalog.in_cohort(node)
        return Constant(True) if skip else node

    def _value(self, expr: Node) -> Node:
        if not isinstance(expr, Field):
            return self._computed(expr)
        name = ".".join(expr.chain)
        if name in self.values:
            return constant_of(self.values[name])
        if expr.chain[0] == "filters":
            return self._filters(name)
        if expr.chain[0] == "variables":
            raise HogQLError(f"Variable {'.'.join(expr.chain[1:])} is missing from query")
        if not self.values:
            raise HogQLError(f"Unresolved placeholder: {{{name}}}")
        raise HogQLError(
            f"Placeholder {{{name}}} is not available in this context. "
            f"You can use the following: {', '.join(self.values)}"
        )

    def _computed(self, expr: Node) -> Node:
        """Fill ``{x + 1}``: its names are placeholders, and the rest is left to ClickHouse."""
        if isinstance(expr, Constant):
            return expr
        if not isinstance(expr, Call):
            raise HogQLError("You can not use placeholders here")
        return Call(expr.name, [self._value(argument) for argument in expr.args], expr.params)

    # -- {filters} -----------------------------------------------------------------------------------------------

    def _filters(self, name: str) -> Node:
        dates = self.dates if isinstance(self.dates, Dates) else Dates()
        if name == "filters":
            return self._condition(dates)
        if name not in ("filters.dateRange.from", "filters.dateRange.to"):
            raise HogQLError(
                f"Unsupported filters placeholder `{{{name}}}`. Supported filters placeholders are: "
                "`{filters}`, `{filters.dateRange.from}`, `{filters.dateRange.to}`."
            )
        moment = dates.start if name.endswith("from") else dates.end
        if moment is None:
            self.unbounded = True
            return Constant(True)
        return Call("toDateTime", [Constant(moment)])

    def _condition(self, dates: Dates) -> Node:
        tables = [join.table for join in self.selects[-1].source] if self.selects else []
        names = [table[0] for table in tables if isinstance(table, list) and table[0] in _TIMES]
        if not names:
            raise HogQLError(
                "Cannot use 'filters' placeholder in a SELECT clause that does not select from the events, sessions, "
                "logs, traces or groups table."
            )
        column = Field([_TIMES[names[0]]])
        pairs = (("less", dates.end), ("greaterOrEquals", dates.start))
        conditions: list[Node] = [
            Compare(op, Field(column.chain), Call("toDateTime", [Constant(moment)]))
            for op, moment in pairs
            if moment is not None
        ]
        if len(conditions) > 1:
            return Logic("and", conditions)
        return conditions[0] if conditions else Constant(True)


def _in_words(part: Dict | Tag | Call) -> Node:
    """Write what PostHog's app draws as the tuple that it is sent as."""
    if isinstance(part, Call):
        find(part.name, newer=True).check(len(part.args))
        part = _DRAWN[part.name](part.args[0])
    items: list[Node] = [Constant("__hx_tag"), Constant("__hx_obj" if isinstance(part, Dict) else part.kind)]
    for key, value in part.items if isinstance(part, Dict) else part.attributes.items():
        items += [key if isinstance(key, Node) else Constant(key), _as_tuple(value)]
    return Sequence("tuple", items)


def _as_tuple(value: Node | list[Node]) -> Node:
    if isinstance(value, list):
        return Sequence("tuple", [_as_tuple(item) for item in value])
    return Sequence("tuple", [_as_tuple(item) for item in value.items]) if isinstance(value, Sequence) else value
