"""What a refresh returns of its insights: what is known of each, its numbers, and its file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.api.freshness import Outcome, Target
from airflow_provider_posthog.api.insight_conditions import change, shown
from airflow_provider_posthog.api.insight_values import Pick, Reading, kind_of, readings
from airflow_provider_posthog.api.insights import Insight, runnable_query
from airflow_provider_posthog.api.queries import more_rows, placeholders
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    clean,
)
from airflow_provider_posthog.results.answer import ask, read
from airflow_provider_posthog.tasks.deadline import timeout_error
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.refresh_files import Files
from airflow_provider_posthog.tasks.result_file import MAX_XCOM_BYTES

if TYPE_CHECKING:
    from airflow_provider_posthog.tasks.identity import Identity

log = logging.getLogger(__name__)

OnTruncation = Literal["fail", "warn", "ignore"]
ON_TRUNCATION = ("fail", "warn", "ignore")
#: Series of one insight whose numbers are returned; a breakdown may have hundreds.
_MOST_SERIES = 25
_LINES = 5
#: What can be left out of what is returned of an insight, the least useful first. Without its dashboard it would be
#: another insight for the tasks behind, the bare one.
_SPARE = ("url", "seconds", "rows", "text", "has_more", "short_id", "path", "values")
#: Characters of a name that stay where there are too many insights.
_SHORT = 40
#: Bytes that what stands around the list of insights may have.
_ROUND = 4 * 1024


@dataclass(frozen=True)
class ResultWriter:
    """Writes the results of a refresh, and describes each.

    :param files: where the results go.
    :param on_truncation: what to do if PostHog cut the rows of one that goes there.
    :param address: the project's address in PostHog's interface.
    :param values: return the newest numbers, too.
    """

    files: Files
    on_truncation: OnTruncation
    address: str
    values: bool = False

    def write(
        self, outcomes: Sequence[tuple[Target, Outcome]], identity: Identity
    ) -> tuple[list[dict[str, Any]], list[tuple[str, Exception]]]:
        """Write the results; one that cannot be written keeps no other from it.

        :param outcomes: insights that are proved to be fresh.
        :param identity: the task's.
        :returns: what is returned of each; and what those are called that failed, and why.
        """
        done: list[dict[str, Any]] = []
        failed: list[tuple[str, Exception]] = []
        for target, outcome in outcomes:
            insight: Insight = outcome.insight or {}
            try:
                check_cut(target, insight, self.on_truncation, is_written=self.files.path is not None)
                done.append({**self._described(target, outcome), "path": self.files.write(target, insight, identity)})
            except (PostHogError, OSError) as error:
                log.warning("%s: %s", title_of(target, outcome), error)
                failed.append((title_of(target, outcome), error))
        return done, failed

    def _described(self, target: Target, outcome: Outcome) -> dict[str, Any]:
        insight: Any = outcome.insight or {}
        result, short_id, name = insight.get("result"), insight.get("short_id"), insight.get("name")
        rows = len(result) if isinstance(result, (list, Mapping)) else 1
        words = title_of(target, outcome), counted(rows, "row"), str(insight.get("last_refresh"))[:19]
        log.info("%s is fresh: %s, calculated at %s", *words)
        described = {
            "id": target.insight_id,
            "short_id": short_id,
            "name": name or insight.get("derived_name"),
            "dashboard_id": target.dashboard_id,
            "last_refresh": insight.get("last_refresh"),
            "rows": rows,
            "has_more": insight.get("hasMore") is True,
            "seconds": round(outcome.seconds, 3),
            "url": f"{self.address}/insights/{short_id}",
        }
        if self.values:
            described["values"] = values_of(insight)
            described["text"] = text_of(described["name"], described["values"])
        return described


def title_of(target: Target, outcome: Outcome) -> str:
    """Return what to call an insight in messages.

    :param target: the insight.
    :param outcome: what came of it.
    """
    name = target.title or (outcome.insight or {}).get("name")
    # A name is what somebody typed.
    return f"{clean(name)!r} (insight {target.insight_id})" if name else f"insight {target.insight_id}"


def check_overrides(filters: object, variables: object) -> None:
    """Refuse overrides that PostHog could not read.

    :param filters: the task's ``filters_override``.
    :param variables: its ``variables_override``.
    :raises PostHogSettingsError: if one is not a dictionary, or a variable says no value.
    """
    for name, value in (("filters_override", filters), ("variables_override", variables)):
        if not isinstance(value or {}, Mapping):
            raise PostHogSettingsError(name, "is not a dictionary.", "Write it as PostHog's API has it.")
    for key, variable in variables.items() if isinstance(variables, Mapping) else ():
        if not isinstance(variable, Mapping):
            raise PostHogSettingsError(
                "variables_override",
                f"{str(key)[:60]!r} does not say code_name and value.",
                "Write {'<variable id>': {'code_name': ..., 'value': ...}}.",
            )


def cut_of(insight: Insight) -> str | None:
    """Say why rows of an insight's result may be missing; ``None`` if they are all there.

    :param insight: PostHog's answer. ``hasMore`` of a trend tells of further values of its breakdown, and is not a cut.
    """
    node = runnable_query(insight)
    if node is None or not isinstance(insight.get("result"), list) or not more_rows(kind_of(insight)):
        return None
    question = None
    if node["kind"] == "HogQLQuery":
        try:
            question = ask(node.get("query"), placeholders(node), field="insight")
        except PostHogSettingsError as error:
            return f"its query {error.problem}"
    answer = {"results": insight["result"], "columns": insight.get("columns"), "hasMore": insight.get("hasMore")}
    cut = read(answer, question, asked=node.get("limit")).cut
    return cut and cut.replace("the answer", "its result").replace("The answer", "Its result")


def check_cut(target: Target, insight: Insight, on_truncation: OnTruncation, *, is_written: bool) -> None:
    """Fail, or warn, if PostHog cut the rows of a result.

    :param target: the insight.
    :param insight: PostHog's answer.
    :param on_truncation: whether it fails.
    :param is_written: whether the rows go into a file; otherwise they are only counted.
    :raises PostHogIncompleteError: if they go there, and not all of them.
    """
    cut = cut_of(insight) if on_truncation != "ignore" else None
    if cut is None:
        return
    text = (
        f"Insight {target.insight_id}: {cut} Write the LIMIT into the insight's query in PostHog. Or, if these rows "
        "are all you asked for, write on_truncation='ignore'."
    )
    if is_written and on_truncation == "fail":
        raise PostHogIncompleteError(text)
    log.warning(text)


def values_of(insight: Insight) -> list[dict[str, Any]]:
    """Return an insight's newest complete numbers, one for each series, small and JSON; none where it has none.

    :param insight: PostHog's answer, just calculated.
    :returns: ``series`` (its name, or null), ``value``, ``date``, ``previous``, ``previous_date``, ``change``,
        ``change_percent`` and ``percent`` (whether the numbers are of percent).
    """
    try:
        made = readings(insight, Pick(series=None), moment(insight.get("last_refresh")))
    except PostHogSettingsError:
        return []
    return [_value_of(reading) for reading in made[:_MOST_SERIES]]


def _value_of(reading: Reading) -> dict[str, Any]:
    percent = change(reading, percent=True)
    return {
        "series": reading.series,
        "value": reading.value,
        "date": reading.date,
        "previous": reading.previous,
        "previous_date": reading.previous_date,
        "change": change(reading),
        "change_percent": None if percent is None or abs(percent) == float("inf") else round(percent, 2),
        "percent": reading.percent,
    }


def text_of(name: object, values: Sequence[Mapping[str, Any]]) -> str:
    """Say an insight's numbers in words, for a mail or a chat message: a line for each series.

    :param name: the insight's name.
    :param values: from :func:`values_of`.
    """
    title = clean(name) if name else "An insight"
    lines = [f"{title}{_of_series(value, values)}: {_said(value)}" for value in values[:_LINES]]
    if len(values) > _LINES:
        lines.append(f"{title}: {len(values) - _LINES} more series")
    return "\n".join(lines) or f"{title}: no number"


def _of_series(value: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> str:
    return f", {value['series']}" if len(values) > 1 and value["series"] else ""


def _said(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "no number"
    sign = " %" if value["percent"] else ""
    when = f" on {value['date']}" if value["date"] else ""
    text = f"{shown(round(value['value'], 4))}{sign}{when}"
    if value["previous"] is None:
        return text
    grown = "" if value["change_percent"] is None else f"{value['change_percent']:+.1f} %, "
    return f"{text} ({grown}{shown(round(value['previous'], 4))}{sign} before)"


def fitted(done: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Leave out what would make the XCom of many insights too large, the least useful first.

    :param done: what is known of each insight.
    :returns: that, and what was left out of all of them.
    """
    fitting, left_out = [dict(row) for row in done], []
    if _size(fitting) > MAX_XCOM_BYTES - _ROUND:
        fitting = [{**row, "name": row.get("name") and str(row["name"])[:_SHORT]} for row in fitting]
    for name in _SPARE:
        if _size(fitting) <= MAX_XCOM_BYTES - _ROUND:
            break
        if name in ("values", "path") and all(row.get(name) is None for row in fitting):
            continue
        if name == "values":
            fitting = [{**row, "values": (row.get("values") or [])[:1]} for row in fitting]
            left_out.append("values of further series")
            if _size(fitting) <= MAX_XCOM_BYTES - _ROUND:
                break
        fitting = [{key: value for key, value in row.items() if key != name} for row in fitting]
        left_out.append(name)
    if left_out:
        log.warning("Left out of the XCom, which would be too large: %s", ", ".join(left_out))
    return fitting, left_out


def _size(value: object) -> int:
    return len(json.dumps(value).encode())


def writing_error(failed: Sequence[tuple[str, Exception]], good: int) -> PostHogError | OSError | None:
    """Return the error of results that could not be written: the only one's own, or one that names all.

    :param failed: what each is called, and why.
    :param good: how many could.
    """
    if not failed:
        return None
    first = failed[0][1]
    if len(failed) == 1 and not good and isinstance(first, (PostHogError, OSError)):
        return first
    reasons = "; ".join(f"{title}: {error}" for title, error in failed)
    text = f"{len(failed)} of {len(failed) + good} results could not be written ({good} were): {reasons}"
    settings = next((error for _, error in failed if isinstance(error, PostHogSettingsError)), None)
    if settings is not None and len(failed) == 1:
        return PostHogSettingsError(settings.field, text.removesuffix(settings.remedy).rstrip(), settings.remedy)
    return PostHogIncompleteError(text)


def not_fresh_error(
    bad: Sequence[tuple[Target, Outcome]], good: int, limit: str, failed: Sequence[tuple[str, Exception]]
) -> BaseException:
    """Return the error of insights that are not proved to be fresh: all of them are named.

    :param bad: they, and what came of each.
    :param good: how many are fresh.
    :param limit: which of the task's limits ended the wait, if one did.
    :param failed: what those are called that are fresh, but could not be written, and why.
    """
    reasons = "; ".join(f"{title_of(target, outcome)}: {outcome.reason or outcome.state}" for target, outcome in bad)
    reasons += "".join(f"; {title} is fresh, but: {error}" for title, error in failed)
    text = f"{len(bad)} of {len(bad) + good} insights are not proved to be fresh ({good} are): {reasons}"
    if all(outcome.state == "timeout" for _, outcome in bad):
        return timeout_error(limit, text)
    return PostHogJobFailed(text)


def oldest(done: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the ``last_refresh`` of the oldest of some results; ``None`` if there are none.

    :param done: what is known of each insight.
    """
    return min((row["last_refresh"] for row in done), key=lambda at: str(moment(at)), default=None)
