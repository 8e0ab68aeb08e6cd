"""PostHog's functions for answers to surveys, in words that ClickHouse knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from airflow_provider_posthog.emulator.hogql.ast import Call, Compare, Constant, Field, Index, Logic, Node, Select
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.select import SelectParser

_SUBMISSIONS = """
SELECT argMax(uuid, timestamp) FROM events WHERE event = 'survey sent' AND properties.$survey_id = ''
GROUP BY if(coalesce(properties.$survey_submission_id, '') = '', toString(uuid), properties.$survey_submission_id)
"""


def _response(args: list[Node]) -> Node:
    """Write ``getSurveyResponse(place, id, several choices)``: the answer by the question's id, or its place."""
    values = [each.value if isinstance(each, Constant) else None for each in args]
    if not isinstance(args[0], Constant):
        raise HogQLError("getSurveyResponse first argument must be a constant")
    if not isinstance(values[0], (int, str)) or not str(values[0]).lstrip("-").isdigit():
        raise HogQLError("getSurveyResponse first argument must be a valid integer")
    place = int(values[0])
    by_place = Constant(f"$survey_response_{place}" if place else "$survey_response")
    by_id = Constant(f"$survey_response_{values[1]}") if len(values) > 1 and values[1] else _of_place(place)
    if len(values) > 2 and values[2]:
        known = [
            Call("JSONHas", [_properties(), by_id]),
            Compare("greater", Call("length", [_array(by_id)]), Constant(0)),
        ]
        return Call("if", [Logic("and", known), _array(by_id), _array(by_place)])
    return Call("coalesce", [Call("nullif", [_text(key), Constant("")]) for key in (by_id, by_place)])


def _of_place(place: int) -> Node:
    """Write the key of an answer whose question is known by its place only."""
    question = Index("array", _array(Constant("$survey_questions")), Constant(place + 1))
    return Call("concat", [Constant("$survey_response_"), Call("JSONExtractString", [question, Constant("id")])])


def _properties() -> Node:
    return Field(["properties"])


def _text(key: Node) -> Node:
    return Call("JSONExtractString", [_properties(), key])


def _array(key: Node) -> Node:
    return Call("JSONExtractArrayRaw", [_properties(), key])


def _submissions(args: list[Node]) -> Node:
    """Write ``uniqueSurveySubmissionsFilter(survey, start, end)``: the last event of each submission."""
    for place, each in enumerate(args):
        if not isinstance(each, Constant):
            order = ("first", "second", "third")[place]
            raise HogQLError(f"uniqueSurveySubmissionsFilter {order} argument must be a constant")
    last = SelectParser(_SUBMISSIONS, newer=True).query()
    if isinstance(last, Select) and isinstance(last.where, Logic):
        last.where.args[1] = Compare("equals", Field(["properties", "$survey_id"]), args[0])
        times = zip(("greaterOrEquals", "lessOrEquals"), args[1:], strict=False)
        last.where.args += [Compare(op, Field(["timestamp"]), moment) for op, moment in times]
    return Compare("in", Field(["uuid"]), last)


#: What PostHog writes in place of a call of each of these functions.
SURVEYS: Mapping[str, Callable[[list[Node]], Node]] = {
    "getSurveyResponse": _response,
    "uniqueSurveySubmissionsFilter": _submissions,
}
