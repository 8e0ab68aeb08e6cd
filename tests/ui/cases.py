"""What the logs of the tasks of ``dags/cases.py`` say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import airflow_provider_posthog

#: How the last line of each task's log begins.
ENDS = {
    "load": r"Loaded events \S+ to \S+ into loaded \(warehouse\): [\d,]+ rows.*, counted before .* \([\d.]+ s\)",
    "export": r"Export \d+ is ready: \S+\.csv, expires \d{4}-\d\d-\d\d \([\d.]+ s\)",
    "query": r"The query returned \d+ rows \([\d.]+ s\)",
    "refresh": r"Dashboard 1 is fresh: 3 insights\. \S+/dashboard/1 \([\d.]+ s\)",
    "gate": r"Insight 2 meets the condition > 0 \('Pageviews per day' of \S+: \d+\) \([\d.]+ s\)",
}
#: What the first line says after the name of the class.
BEGINS = {
    "load": ": events, table loaded, connection warehouse. PostHog: ",
    "export": ": a query. PostHog: ",
    "query": ": a query. PostHog: ",
    "refresh": ": dashboard 1. PostHog: ",
    "gate": ": insight 2. PostHog: ",
}
_MODULES = {path.name for path in Path(airflow_provider_posthog.__file__ or "").parent.rglob("*.py")}
PAGE = "docs/troubleshooting.md#"
#: What a failed task's log has to hold.
ERRORS = {
    "wrong_table": ('Unknown table "evnts"', PAGE),
    "wrong_source": ("source: 'evnts' is not known. Write one of events, persons", PAGE),
    "no_interval": ("start: is not given, and the run has no data interval.", "CronDataIntervalTimetable", PAGE),
    "no_insight": (
        "PostHog: insight AbCd1234: is 'AbCd1234', and the project has no such insight that this key may see.",
        PAGE,
    ),
    "no_host": ("no connection (DNS knows no such host) (5 attempts), at no-such-host.invalid", PAGE),
    "refused": ("no connection (refused) (5 attempts), at 127.0.0.1:9", PAGE),
    "no_type": ("sql_conn_id: is a connection of the type generic, which is no database.", "AIRFLOW_CONN_", PAGE),
    "never": ("Insight 2 does not meet the condition > 1000000000 in time. Its value for",),
}
#: What Airflow says itself.
_AIRFLOW = re.compile(
    r"::(?:end)?group::|Success criteria met|Pausing task|Pushing xcom|Worker startup|[Tt]rigger "
    r"|^Retrieving connection|^Heartbeat"
)


def lines_of(log: str) -> list[str]:
    """Return the lines of a task's log that are this provider's, from Airflow 3's JSON or Airflow 2's text."""
    try:
        entries = json.loads(log)["content"]
    except ValueError:
        told = re.findall(r"\{(\w+\.py):\d+\} (?:INFO|WARNING|ERROR) - (.*)", log)
        found = [line for module, line in told if module in _MODULES]
    else:
        ours = ("airflow.task.operators.airflow_provider", "airflow.task.sensors.airflow_provider", "airflow_provider")
        found = [one["event"] for one in entries if ours_in(str(one.get("logger")), ours)]
    return [line for line in found if not _AIRFLOW.search(line)]


def ours_in(logger: str, ours: tuple[str, ...]) -> bool:
    """Tell whether a line is this provider's."""
    return logger.startswith(ours) or "PostHog" in logger


def check_log(task: str, lines: list[str], posthog: str) -> None:
    """Check the log of a task that went well: a start, an end, and nothing twice."""
    first = next(number for number, line in enumerate(lines) if line.startswith("PostHog"))
    assert BEGINS[task] + posthog in lines[first]
    ends = [line for line in lines if re.search(ENDS[task], line)]
    assert len(ends) == 1, lines
    assert len(set(lines)) == len(lines), f"the same line twice: {lines}"
    assert len(lines) <= 8
