"""Look up a saved insight by its number, its short id, or a task's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

T = TypeVar("T")

#: A short id may consist of digits too, but only a number is written without leading zeros.
_NUMBER = pattern("[1-9][0-9]{0,17}")
_PAGE = pattern(r".*/insights/([A-Za-z0-9]{1,64})(?:[/?#].*)?")


def find(insight: object) -> Steps[Insight]:
    """Find a saved insight; nothing is calculated.

    :param insight: its number, its short id, or a task's result: a mapping with its ``id``.
    :raises PostHogSettingsError: if it is none of these, or the project has no such insight that the key may see.
    """
    text = key_of(insight)
    if _NUMBER.fullmatch(text):
        try:
            answer: Insight = yield insights.retrieve(int(text))
            return answer
        except PostHogNotFoundError:
            pass  # it may be a short id of digits
    return (yield from _by_short_id(text))


def ask(insight: object, make: Callable[[int], Call[T]]) -> Steps[T]:
    """Send a call about a saved insight; one call if it is given by its number, two for a short id.

    :param insight: as for :func:`find`.
    :param make: makes the call out of the insight's number.
    :raises PostHogSettingsError: as :func:`find`.
    """
    text = key_of(insight)
    if _NUMBER.fullmatch(text):
        try:
            answer: T = yield make(int(text))
            return answer
        except PostHogNotFoundError:
            pass  # as in find()
    known = yield from _by_short_id(text)
    answer = yield make(number_of(known))
    return answer


def dashboard_of(insight: object, from_dashboard: object = None) -> int | None:
    """Return the dashboard on which an insight is meant, without asking PostHog; ``None`` for the bare insight.

    The result of a refresh on a dashboard refers to the insight's numbers there, not to those of the bare insight.

    :param insight: as for :func:`find`.
    :param from_dashboard: the task's own argument, which takes precedence: a dashboard's number.
    :raises PostHogSettingsError: if it is not a number.
    """
    if from_dashboard in (None, ""):
        from_dashboard = insight.get("dashboard_id") if isinstance(insight, Mapping) else None
    if from_dashboard is None:
        return None
    text = str(from_dashboard).strip()
    if isinstance(from_dashboard, bool) or not _NUMBER.fullmatch(text):
        raise PostHogSettingsError(
            "from_dashboard", f"is {text[:60]!r}, which is not a number.", "Write the dashboard's id."
        )
    return int(text)


def not_on(insight: Insight, dashboard: int | None) -> str | None:
    """Return why an insight is not on a dashboard: PostHog then ignores the dashboard and answers for the bare insight.

    :param insight: PostHog's answer. Newer servers send ``dashboard_tiles`` only, older ones ``dashboards``.
    :param dashboard: the dashboard; ``None`` for none.
    :returns: what is wrong, with the insight as "it"; ``None`` if it is there, or the server does not say.
    """
    answer: Mapping[str, Any] = insight
    tiles, numbers = answer.get("dashboard_tiles"), answer.get("dashboards")
    if dashboard is None or (not isinstance(tiles, list) and not isinstance(numbers, list)):
        return None
    shown: set[object] = set(numbers) if isinstance(numbers, list) else set()
    for tile in tiles if isinstance(tiles, list) else ():
        if isinstance(tile, Mapping) and not tile.get("deleted"):
            shown.add(tile.get("dashboard_id"))
    if dashboard in shown:
        return None
    return f"it is not on dashboard {dashboard}, or the key cannot see that"


def _by_short_id(text: str) -> Steps[Insight]:
    # Servers before 2025 retrieve by number only; this filter finds short ids on all of them.
    page: insights.InsightPage = yield insights.list(short_id=text)
    for insight in page.get("results", []):
        if insight.get("short_id") == text:
            return insight
    raise PostHogSettingsError(
        "insight",
        f"is {text!r}, and the project has no such insight that this key may see.",
        "Write its id, or the short id from its address (.../insights/<short id>).",
    )


def number_of(insight: Insight) -> int:
    """Return the number of an insight that PostHog answered with.

    :param insight: PostHog's description of it.
    :raises PostHogSettingsError: if it has none.
    """
    number = insight.get("id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise PostHogSettingsError(
            "insight", "was described by PostHog without its id.", "Check the connection's host."
        )
    return number


def key_of(insight: object) -> str:
    """Read an insight's number or short id from a task's argument, without asking PostHog.

    :param insight: as for :func:`find`.
    :raises PostHogSettingsError: if it is none of these.
    """
    if isinstance(insight, Mapping):
        insight = insight.get("id") or insight.get("short_id")
    text = str(insight).strip()
    if isinstance(insight, str) and (page := _PAGE.fullmatch(text)):
        raise PostHogSettingsError("insight", "is the address of a page.", f"Write {page[1]!r}.")
    if isinstance(insight, bool) or not isinstance(insight, (int, str)) or not 0 < len(text) <= 64:
        raise PostHogSettingsError(
            "insight",
            f"is {text[:60]!r}, which is neither the id nor the short id of an insight.",
            "Write its id, or the short id from its address (.../insights/<short id>), or refresh_insight.output.",
        )
    return text
