"""Writes docs/api.md, the table of all endpoints, from the endpoints themselves: ``python -m docs.generate_api``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_posthog.api.catalog import CATALOG
from airflow_provider_posthog.api.endpoint import Endpoint

TARGET = Path(__file__).with_name("api.md")

HEAD = """\
# All endpoints

<!-- Made by `python -m docs.generate_api`; do not edit. -->

Look here if no operator does what you need: every endpoint below can be called from your own task
([the hook](hook.md#any-other-call)) or as a task of its own ([`PostHogApiOperator`](hook.md#any-call-as-a-task)). Each endpoint is a
function that returns a `Call`, which every client sends:

```python
from airflow_provider_posthog.api import persons

page = client.send(persons.list(email="someone@example.com"))
page = await async_client.send(persons.list(email="someone@example.com"))
```

Paths without `/api/` are relative to `/api/projects/{project_id}/`. Arguments before the `*` may be given by position.
Those with `?` may be left out. The function's docstring explains each; see `help(persons.list)`.

## What is refused before it is sent

A wrong argument raises `PostHogSettingsError`, which names it and says what to write.

| PostHog | this provider |
|---|---|
| reads a flag of a deletion by its presence: `delete_events=false` deletes the events | flags are `True` or `False`, no text, and sent only when true |
| takes an empty filter for none, and lists everything | empty filters are refused; a misspelt name is a `TypeError`, or refused with the nearest right one |
| takes a misspelt `refresh` for "from the cache" | only its seven words are accepted |
| cuts large pages (events at 1,000) and look-ups of over 200 persons, and says nothing | pages over 1,000 and look-ups over 200 are refused |
| takes `persons/<distinct id>/` for a bad id, `insights/trend/` for another endpoint | ids in paths are numbers or UUIDs |
| reads a time without an offset in the project's zone | times need their offset |
| lists the runs of the last seven days unless told otherwise | a lower bound is needed |
| passes `offset` of the list of events on to the next pages, and ends lists that are newest first early | events come oldest first, between two bounds, without `offset` |

PostHog has deprecated the list of events, and using it warns (`PostHogDeprecatedEndpointWarning`). `format=csv` is not offered,
because answers are read as JSON.

## The table

- **Scope**: what the personal API key needs. Creating an export also needs `insight:read`, `dashboard:read` or `query:read`,
  depending on what is exported.
- **Pages**: with `offset` the next page is requested by `limit` and `offset`, with `cursor` and `next` by the address in the answer.
  `none`: the answer is complete.
- **Task**: `PostHogApiOperator(call="persons.list", arguments={...})` sends any of them. If another task is named, it
  does more: it waits, checks the result, and resumes.
- **Limit**: which of [PostHog's limits](limits.md#requests) it counts against.
- **Repeated**: whether it is sent again if its answer was lost. Calls that create something are not. `persons.bulk_delete`
  is repeated only with `keep_person=True`, because a second answer about deleted persons says that there were none.
  `batch_exports.unpause` is repeated only without `backfill`.
"""

COLUMNS = "| endpoint | function | scope | pages | limit | repeated | task |\n|---|---|---|---|---|---|---|\n"

#: Tasks that do more than send the call; every endpoint can be called by `PostHogApiOperator`.
TASKS = {
    "exports.create": "PostHogCreateExportOperator",
    "exports.retrieve": "PostHogExportSensor",
    "exports.content": "PostHogExportToObjectStorageOperator",
    "batch_exports.start_backfill": "PostHogBackfillBatchExportOperator",
    "batch_exports.retry_run": "PostHogRetryBatchExportRunOperator",
    "batch_exports.runs": "PostHogBatchExportRunSensor",
    "warehouse.reload_source": "PostHogSyncSourceOperator",
    "warehouse.reload_schema": "PostHogSyncSourceOperator",
    "warehouse.resync_schema": "PostHogSyncSourceOperator",
    "warehouse.run_view": "PostHogRunViewOperator",
    "warehouse.refresh_table": "PostHogLinkTableOperator",
    **dict.fromkeys(
        (f"data_quality.{name}" for name in ("run_table_checks", "run_table_check", "run_view_checks", "run_view_check")),
        "PostHogRunDataQualityOperator",
    ),
    "query_endpoints.run": "PostHogRunEndpointOperator",
    "cohorts.create_static": "PostHogStaticCohortOperator",
    "cohorts.add_by_query": "PostHogStaticCohortOperator",
    "cohorts.retrieve": "PostHogCohortCalculatedSensor",
    "annotations.create": "PostHogAnnotationOperator",
    "feature_flags.update": "PostHogFeatureFlagOperator",
    "experiments.recalculate": "PostHogExperimentResultsOperator",
    "experiments.timeseries": "PostHogExperimentResultSensor",
}

FOOT = """
DELETE of insights and dashboards answers 405 at PostHog. `soft_delete` covers these rows: it sends `PATCH` with
`deleted: true`, and `restore` brings the thing back with `deleted: false`.
"""


def _arguments(endpoint: Endpoint[..., Any]) -> str:
    words: list[str] = []
    star = False
    for name, parameter in endpoint.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            words.append("*")
        words.append(name + ("" if parameter.default is parameter.empty else "?"))
    return ", ".join(words)


def _row(endpoint: Endpoint[..., Any]) -> str:
    repeated = "yes" if endpoint.repeatable else "no"
    cells = (
        f"`{endpoint.documented or endpoint.method} {endpoint.path}`",
        f"`{endpoint.name}({_arguments(endpoint)})`",
        ", ".join(f"`{scope}`" for scope in endpoint.scopes),
        endpoint.paging,
        endpoint.bucket,
        repeated,
        f"`{TASKS.get(endpoint.name, 'PostHogApiOperator')}`",
    )
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """Return what docs/api.md must hold."""
    lines = [HEAD]
    area = ""
    for endpoint in CATALOG.values():
        name = endpoint.name.split(".")[0]
        if name != area:
            area = name
            lines.append(f"\n### {area}\n\n{COLUMNS}")
        lines.append(_row(endpoint) + "\n")
    return "".join(lines) + FOOT


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
