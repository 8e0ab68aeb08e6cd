"""What a project has of its own that a query may name: cohorts, actions, warehouse tables and views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from airflow_provider_posthog.emulator.hogql.ast import Call, Compare, Constant, Field, Join, Logic, Node, Select
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.schema_types import Table


@dataclass
class Cohort:
    """What queries know of a cohort.

    :param is_static: its members are in ``static_cohort_people``; those of others in ``cohort_people``
    """

    id: int
    name: str
    is_static: bool = False


@dataclass(frozen=True)
class Step:
    """One of an action's steps: all that is not None has to fit.

    :param url_matching: ``contains`` (the default), ``exact`` or ``regex``
    :param properties: values of the event's properties by name
    """

    event: str | None = None
    url: str | None = None
    url_matching: str = "contains"
    properties: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """An action: an event that fits one of the steps."""

    id: int
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Catalog:
    """All that there is.

    :param tables: warehouse tables by name
    :param views: HogQL by the name of the view
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    cohorts: Mapping[int, Cohort] = field(default_factory=dict)
    actions: Mapping[int, Action] = field(default_factory=dict)

    def in_cohort(self, node: Compare) -> Compare:
        """Write ``IN COHORT`` as a sub-query.

        :param node: the comparison, its cohort a number or a name
        :raises HogQLError: if there is no such cohort
        """
        if not isinstance(node.right, Constant):
            raise HogQLError("cohort() takes only constant arguments")
        wanted = node.right.value
        if isinstance(wanted, bool) or not isinstance(wanted, (int, float, str)):
            raise HogQLError("cohort() takes exactly one string or integer argument")
        cohort = _one(self.cohorts, wanted, "cohort")
        where = Compare("equals", Field(["cohort_id"]), Constant(cohort.id))
        table = "static_cohort_people" if cohort.is_static else "cohort_people"
        people = Select([Field(["person_id"])], source=[Join([table])], where=where)
        return Compare("in" if node.op == "inCohort" else "notIn", node.left, people)

    def matches_action(self, call: Call, source: list[Join]) -> Node:
        """Write ``matchesAction`` as the conditions of its steps.

        :param call: with the action's number or name
        :param source: what the SELECT around it reads
        :raises HogQLError: if there is no such action, or nothing that reads events
        """
        wanted = call.args[0].value if isinstance(call.args[0], Constant) else None
        if isinstance(wanted, bool) or not isinstance(wanted, (int, str)):
            raise HogQLError("matchesAction() takes only constant arguments")
        action = _one(self.actions, wanted, "action")
        events = [join for join in source if join.table == ["events"]]
        if not events:
            raise HogQLError("matchesAction can only be used with the events table")
        alias = events[0].alias or "events"
        steps = [_step(step, alias) for step in action.steps]
        return steps[0] if len(steps) == 1 else Logic("or", steps) if steps else Constant(False)


_Named = TypeVar("_Named", Cohort, Action)


def _one(those: Mapping[int, _Named], wanted: int | float | str, kind: str) -> _Named:
    if not isinstance(wanted, str):
        if int(wanted) not in those:
            raise HogQLError(f"Could not find {kind} with ID {wanted}")
        return those[int(wanted)]
    named = [table for table in those.values() if table.name == wanted]
    if not named:
        article = "a" if kind == "cohort" else "an"
        raise HogQLError(f"Could not find {article} {kind} with the name '{wanted}'")
    if len(named) > 1:
        raise HogQLError(f"Found multiple {kind}s with name '{wanted}'")
    return named[0]


def _step(step: Step, alias: str) -> Node:
    parts: list[Node] = []
    if step.event is not None:
        parts.append(Compare("equals", Field([alias, "event"]), Constant(step.event)))
    if step.url is not None:
        url = Field([alias, "properties", "$current_url"])
        op = {"exact": "equals", "regex": "match"}.get(step.url_matching, "like")
        value = step.url if op != "like" else f"%{step.url}%"
        parts.append(Compare(op, url, Constant(value)))
    for name, wanted in step.properties.items():
        shown = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
        column = Call("toString", [Field([alias, "properties", name])])
        parts.append(Compare("equals", column, Constant(shown)))
    return parts[0] if len(parts) == 1 else Logic("and", parts) if parts else Constant(True)
