"""Filters of lists of persons and events, as conditions of ClickHouse."""

from __future__ import annotations

import json
from collections.abc import Callable

from airflow_provider_posthog.emulator.http.envelopes import invalid, server_error
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.people.people_tables import listed, text

Write = Callable[[str, str, list[str]], str]


def _any(template: str, joiner: str = " OR ") -> Write:
    def write(value: str, raw: str, wanted: list[str]) -> str:
        return "(" + (joiner.join(template.format(value=value, wanted=text(item)) for item in wanted) or "0") + ")"

    return write


def _like(template: str, joiner: str = " OR ") -> Write:
    inner = _any(template, joiner)
    return lambda value, raw, wanted: inner(value, raw, [f"%{text}%" for text in wanted])


OPERATORS: dict[str, Write] = {
    "exact": lambda value, raw, wanted: f"{value} IN {listed(wanted)}" if wanted else "0",
    "is_not": lambda value, raw, wanted: f"{value} NOT IN {listed(wanted)}" if wanted else "1",
    "icontains": _like("{value} ILIKE {wanted}"),
    "not_icontains": _like("{value} NOT ILIKE {wanted}", " AND "),
    "regex": _any("match({value}, {wanted})"),
    "not_regex": _any("NOT match({value}, {wanted})", " AND "),
    "gt": _any("toFloat64OrNull({value}) > toFloat64OrNull({wanted})"),
    "gte": _any("toFloat64OrNull({value}) >= toFloat64OrNull({wanted})"),
    "lt": _any("toFloat64OrNull({value}) < toFloat64OrNull({wanted})"),
    "lte": _any("toFloat64OrNull({value}) <= toFloat64OrNull({wanted})"),
    "is_set": lambda value, raw, wanted: f"{raw} != ''",
    "is_not_set": lambda value, raw, wanted: f"{raw} = ''",
}


def property_text(name: str, column: str = "properties") -> str:
    """Return SQL for a property as text, without the quotes of JSON.

    :param name: of the property.
    :param column: that holds the JSON.
    """
    return f"replaceRegexpAll(JSONExtractRaw({column}, {text(name)}), '^\"|\"$', '')"


def _words(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [value if isinstance(value, str) else json.dumps(value) for value in values if value is not None]


def _condition(condition: object) -> str:
    if not isinstance(condition, dict) or not isinstance(condition.get("key"), str):
        # PostHog looks for the keys of whatever it gets
        raise server_error()
    operator = str(condition.get("operator") or "exact")
    if operator not in OPERATORS:
        raise invalid(f"Operator {operator} is not supported.")
    raw = f"JSONExtractRaw(properties, {text(condition['key'])})"
    return OPERATORS[operator](property_text(condition["key"]), raw, _words(condition.get("value")))


def _group(condition: object) -> str:
    if isinstance(condition, dict) and isinstance(condition.get("values"), list):
        joiner = " OR " if condition.get("type") == "OR" else " AND "
        return "(" + (joiner.join(map(_group, condition["values"])) or "1") + ")"
    return _condition(condition)


def property_conditions(request: Request) -> list[str]:
    """Return the conditions of the parameter ``properties``.

    Servers since the end of 2025 read a list only, and fail over the groups (``{"type": "AND", "values": [...]}``) that
    are documented.

    :param request: of a list.
    :raises ApiError: 400 for what is not JSON, 500 for what PostHog stumbles over.
    """
    sent = request.query("properties")
    if not sent:
        return []
    try:
        conditions = json.loads(sent)
    except ValueError:
        raise invalid("Properties are unparsable!") from None
    if isinstance(conditions, dict) and request.state.settings.generation == "A":
        return [_group(conditions)]
    if not isinstance(conditions, list):
        raise server_error()
    return [_condition(condition) for condition in conditions]


def person_condition(request: Request) -> str:
    """Return the condition of a list of persons. Parameters that PostHog does not know are ignored, as there.

    :param request: ``distinct_id``, ``email``, ``search`` and ``properties`` in its query.
    """
    conditions = property_conditions(request)
    if distinct_id := request.query("distinct_id"):
        owners = f"SELECT person_id FROM {{db}}.person_distinct_ids WHERE distinct_id = {text(distinct_id)}"  # noqa: S608
        conditions.append(f"id IN ({owners})")
    if email := request.query("email"):
        conditions.append(f"{property_text('email')} = {text(email)}")
    if search := request.query("search"):
        pattern = text(f"%{search}%")
        owners = f"SELECT person_id FROM {{db}}.person_distinct_ids WHERE distinct_id ILIKE {pattern}"  # noqa: S608
        columns = (property_text("email"), property_text("name"), "toString(id)")
        likes = [f"{column} ILIKE {pattern}" for column in columns]
        conditions.append(f"({' OR '.join([*likes, f'id IN ({owners})'])})")
    return " AND ".join(conditions) or "1"
