"""What kind of value an expression gives: as much as PostHog's own choice of functions depends on."""

from __future__ import annotations

import re

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Call,
    Column,
    Constant,
    Field,
    Index,
    Node,
    Select,
    SelectSet,
    Sequence,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.values import words

_OTHER = Column("other")
_CLICKHOUSE_TIME = re.compile(r"^\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?)?$")
_DATETIME = words(
    "toDateTime toDateTime64 toDateTimeUS parseDateTime parseDateTimeBestEffort now nowInBlock toStartOfDay "
    "toStartOfHour "
    "toStartOfMinute toStartOfSecond toStartOfFiveMinutes toStartOfTenMinutes toStartOfFifteenMinutes toTimeZone "
    "fromUnixTimestamp addSeconds addMinutes addHours subtractSeconds subtractMinutes subtractHours timeSlot"
)
_DATE = words(
    "toDate toMonday toStartOfMonth toStartOfQuarter toStartOfYear toStartOfISOYear toStartOfWeek today yesterday "
    "toLastDayOfMonth toLastDayOfWeek"
)
_INTEGER = words("toInt _toInt64 _toUInt64 toUnixTimestamp toUnixTimestamp64Milli length count intDiv")
_SAME = words(
    "min max any anyLast argMin argMax minIf maxIf anyIf argMinIf argMaxIf assumeNotNull coalesce ifNull ifnull nullif "
    "nullIf plus minus addDays addWeeks addMonths addYears subtractDays subtractWeeks subtractMonths subtractYears "
    "dateAdd dateSub greatest least first_value last_value lagInFrame leadInFrame dateTrunc toNullable"
)


def kind_of(node: Node) -> Column:
    """Return the kind of an expression.

    :param node: the expression, resolved
    """
    if isinstance(node, Alias):
        return kind_of(node.expr)
    if isinstance(node, Field) and node.expansion is not None:
        return kind_of(node.expansion)
    if isinstance(node, Field) and node.ref is not None:
        return node.ref.column
    if isinstance(node, Constant):
        return _constant(node.value)
    if isinstance(node, Index) and node.op == "member":
        return kind_of(node.value)
    if isinstance(node, WindowCall):
        return _call(node.call)
    if isinstance(node, Call):
        return _call(node)
    if isinstance(node, SelectSet):
        return kind_of(node.members[0])
    if isinstance(node, Select):
        return kind_of(node.columns[0])
    return _OTHER


def refuse_text_as_time(left: Node, right: Node) -> None:
    """Refuse what ClickHouse could not compare in 2024: a time with ISO text that ends in a zone.

    :param left: one side of a comparison, resolved
    :param right: the other side
    :raises HogQLError: with the code ``type_mismatch``
    """
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        for pair in zip(left.items, right.items, strict=False):
            refuse_text_as_time(*pair)
        return
    for time, text in ((left, right), (right, left)):
        if not isinstance(text, Constant) or not isinstance(text.value, str) or kind_of(time).kind != "datetime":
            continue
        if not _CLICKHOUSE_TIME.match(text.value):
            detail = f"Cannot convert string '{text.value}' to type DateTime64(6, 'UTC')"
            raise HogQLError(detail, code="type_mismatch")


def _constant(value: object) -> Column:
    if value is None:
        return _OTHER
    if isinstance(value, str):
        return Column("string", nullable=False)
    return Column("integer" if isinstance(value, int) else "other", nullable=False)


def _call(call: Call) -> Column:
    if call.name in _DATETIME:
        return Column("datetime")
    if call.name in _DATE:
        return Column("date")
    if call.name in _INTEGER:
        return Column("integer")
    if call.name == "toString":
        return Column("string")
    if call.name in _SAME and call.args:
        inner = kind_of(call.args[0])
        return Column("datetime" if inner.kind == "date" and call.name in ("plus", "minus") else inner.kind)
    return _OTHER
