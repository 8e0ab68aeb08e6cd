"""All endpoints, with real arguments, through both clients and the generic operator, against the emulator."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import (
    batch_exports,
    catalog,
    cohorts,
    elements,
    events,
    exports,
    file_downloads,
    insights,
    persons,
    projects,
    queries,
    warehouse,
)
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.operators.api import PostHogApiOperator
from tests.support.waiting import wait_for

HOGQL = queries.hogql("SELECT event, count() FROM events GROUP BY event ORDER BY event LIMIT 5")
PERSONS = {"kind": "HogQLQuery", "query": "SELECT person_id FROM persons LIMIT 5"}
TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
TEMPLATE = {"template_name": "t", "dashboard_description": "", "dashboard_filters": {}, "tags": [], "tiles": []}
FILTERS = {"events": [{"id": "$pageview"}], "date_from": "-7d"}
FILES = {"exports.content", "file_downloads.download"}


class World:
    """An emulator with something in it for every endpoint to find."""

    def __init__(self, posthog: EmulatorProcess) -> None:
        posthog.settings(
            withdrawn="answer",
            export_seconds=0,
            backfill_hidden_seconds=0,
            batch_run_seconds=3600,
            file_download_seconds=0,
            file_listing_seconds=0,
            async_seconds=3600,
            warehouse_job_seconds=3600,
        )
        self.posthog = posthog
        self.settings = ClientSettings(
            base_url=posthog.url, api_key=posthog.api_key, project_id=posthog.project_id, max_rate_limit_wait=0
        )
        self.client = Client(self.settings)

    def send(self, name: str, **arguments: object) -> Any:
        return self.client.send(catalog.build(name, arguments))

    def person(self) -> str:
        return str(self.posthog.add_persons(1)[0])

    def distinct_id(self) -> str:
        return str(self.send("persons.retrieve", person_id=self.person())["distinct_ids"][0])

    def export(self) -> int:
        made = self.client.send(exports.create(export_format=exports.CSV, export_context={"source": HOGQL}))
        wait_for(lambda: self.client.send(exports.retrieve(made["id"])).get("has_content") is True)
        return int(made["id"])

    def insight(self) -> int:
        return int(self.client.send(insights.create(query=TREND, name="made for the test"))["id"])

    def dashboard(self) -> int:
        return int(self.send("dashboards.list")["results"][0]["id"])

    def tile(self) -> int:
        return int(self.send("dashboards.retrieve", dashboard_id=self.dashboard())["tiles"][0]["id"])

    def another_dashboard(self) -> int:
        return int(self.send("dashboards.create_from_template_json", template=TEMPLATE)["id"])

    def element(self) -> int:
        self.client.send(elements.create(text="go", tag_name="a"))
        return 1  # PostHog does not tell an element's id; this is the first one

    def batch_export(self) -> str:
        return str(self.client.send(batch_exports.list())["results"][0]["id"])

    def run(self) -> str:
        runs = self.client.send(batch_exports.runs(self.batch_export(), after="-7d"))
        return str(runs["results"][0]["id"])

    def running(self) -> str:
        """A run that has not ended."""
        self.client.send(batch_exports.retry_run(self.batch_export(), self.run()))
        return self.run()

    def backfill(self) -> str:
        day = self.day()
        made = self.client.send(batch_exports.start_backfill(self.batch_export(), start_at=day[0], end_at=day[1]))
        return str(made["backfill_id"])

    def day(self) -> tuple[str, str]:
        """The newest full day of events, but for those from the future that other tests have made."""
        newest_one = "SELECT max(timestamp) FROM events WHERE timestamp < now()"
        answer = self.client.send(queries.start(queries.hogql(newest_one)))
        newest = str(answer["results"][0][0])[:10]
        before = self.client.send(queries.start(queries.hogql(f"SELECT toDate('{newest}') - toIntervalDay(1)")))
        return str(before["results"][0][0])[:10], newest

    def window(self) -> dict[str, str]:
        start, end = self.day()
        return {"after": f"{start}T00:00:00Z", "before": f"{end}T00:00:00Z"}

    def event(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(self.client.send(events.list(**self.window(), limit=1))["results"][0]["id"])

    def query(self) -> str:
        answer = self.client.send(queries.start(HOGQL, refresh="force_async", client_query_id="made-for-the-test"))
        return str(answer["query_status"]["id"])

    def file_download(self) -> str:
        start, end = self.day()
        made = self.client.send(
            file_downloads.start(
                model="events", data_interval_start=f"{start}T00:00:00Z", data_interval_end=f"{end}T00:00:00Z"
            )
        )
        return str(made["id"])

    def file(self) -> dict[str, str]:
        download = self.file_download()
        wait_for(lambda: bool(self.client.send(file_downloads.retrieve(download)).get("files")))
        return {"file_download_id": download, "file": self.client.send(file_downloads.retrieve(download))["files"][0]}

    def source(self) -> str:
        return str(self.send("warehouse.sources")["results"][0]["id"])

    def schema(self) -> str:
        return str(self.send("warehouse.sources")["results"][0]["schemas"][0]["id"])

    def syncing(self) -> str:
        self.send("warehouse.reload_schema", schema_id=self.schema())
        return self.schema()

    def view(self) -> str:
        return str(self.send("warehouse.views")["results"][0]["id"])

    def table(self) -> str:
        credential = {"access_key": "AKIA", "access_secret": "secret"}
        url = "https://lake.s3.eu-central-1.amazonaws.com/*.parquet"
        made = warehouse.create_table(name="orders", format="Parquet", url_pattern=url, credential=credential)
        return str(self.client.send(made)["id"])

    def running_view(self) -> str:
        self.send("warehouse.run_view", view_id=self.view())
        return self.view()

    def check(self, path: str) -> dict[str, str]:
        """A check of a table or view, by the path of their list."""
        subject = self.table() if path == "warehouse_tables" else self.view()
        body = {"check_type": "unique", "column_name": "id"}
        call: Any = Call("add", "POST", f"{path}/{subject}/checks/", json_object, json=body)
        return {path: subject, "check_id": str(self.client.send(call)["id"])}

    def checked(self, kind: str) -> dict[str, str]:
        """A run of checks, by its ids."""
        made = self.check("warehouse_tables" if kind == "table" else "warehouse_saved_queries")
        subject = {f"{kind}_id": made["warehouse_tables" if kind == "table" else "warehouse_saved_queries"]}
        return {**subject, "run_id": str(self.send(f"data_quality.run_{kind}_checks", **subject)["id"])}

    def cohort(self) -> int:
        return int(self.client.send(cohorts.create_static(name="n", query=PERSONS))["id"])

    def member(self) -> dict[str, object]:
        """A cohort and somebody in it."""
        person = self.person()
        only = {"kind": "HogQLQuery", "query": "SELECT {id} AS person_id", "values": {"id": person}}
        number = int(self.client.send(cohorts.create_static(name="n", query=only))["id"])
        wait_for(lambda: self.client.send(cohorts.retrieve(number)).get("count") == 1)
        return {"cohort_id": number, "person_id": person}

    def annotation(self) -> int:
        return int(self.send("annotations.create", content="c", date_marker="2026-11-01T00:00:00Z")["id"])

    def record(self, kind: str, **more: object) -> int:
        return int(self.posthog.add_records(kind, [{"key": "k", **more}])[0]["id"])

    def experiment(self) -> int:
        return self.record(
            "experiments", start_date="2026-11-01T00:00:00Z", metrics=[{"uuid": "m", "fingerprint": "f"}]
        )

    def recalculation(self) -> dict[str, object]:
        number = self.experiment()
        run = self.send("experiments.recalculate", experiment_id=number)["id"]
        return {"experiment_id": number, "run": str(run)}

    def collaborator(self) -> dict[str, Any]:
        dashboard = self.dashboard()
        self.send("dashboards.update", dashboard_id=dashboard, restriction_level=37)
        other = ClientSettings(base_url=self.posthog.url, api_key=self.posthog.create_key(user=2), project_id=1)
        with Client(other) as client:
            user = str(client.send(projects.me())["uuid"])
        body = {"user_uuid": user, "level": 37}
        self.client.send(Call("add", "POST", f"dashboards/{dashboard}/collaborators/", json_object, json=body))
        return {"dashboard_id": dashboard, "user_uuid": user}

    def gone_insight(self) -> int:
        insight = self.insight()
        self.client.send(insights.soft_delete(insight))
        return insight

    def gone_dashboard(self) -> int:
        dashboard = self.another_dashboard()
        self.send("dashboards.soft_delete", dashboard_id=dashboard)
        return dashboard


Make = Callable[[World], Mapping[str, object]]
ARGUMENTS: dict[str, Make] = {
    "exports.list": lambda w: {"limit": 5},
    "exports.retrieve": lambda w: {"export_id": w.export()},
    "exports.create": lambda w: {"export_format": exports.CSV, "export_context": {"source": HOGQL}},
    "exports.content": lambda w: {"export_id": w.export()},
    "groups.list": lambda w: {"group_type_index": 0},
    "groups.find": lambda w: {
        "group_type_index": 0,
        "group_key": w.send("groups.list", group_type_index=0)["results"][0]["group_key"],
    },
    "groups.property_values": lambda w: {"group_type_index": 0, "key": "name"},
    "insights.list": lambda w: {"limit": 5},
    "insights.retrieve": lambda w: {"insight_id": w.insight(), "refresh": "force_blocking"},
    "insights.create": lambda w: {"query": TREND, "name": "n"},
    "insights.update": lambda w: {"insight_id": w.insight(), "name": "another name"},
    "insights.soft_delete": lambda w: {"insight_id": w.insight()},
    "insights.restore": lambda w: {"insight_id": w.gone_insight()},
    "insights.sharing": lambda w: {"insight_id": w.insight()},
    "insights.activity": lambda w: {"insight_id": w.insight()},
    "insights.analyze": lambda w: {"insight_id": w.insight()},
    "insights.suggestions": lambda w: {"insight_id": w.insight()},
    "insights.post_suggestions": lambda w: {"insight_id": w.insight(), "body": {"query": TREND}},
    "insights.cancel": lambda w: {"client_query_id": w.query()},
    "insights.trend": lambda w: {"filters": FILTERS},
    "insights.post_trend": lambda w: {"filters": FILTERS},
    "elements.create": lambda w: {"text": "go"},
    "elements.retrieve": lambda w: {"element_id": w.element()},
    "elements.update": lambda w: {"element_id": w.element(), "text": "stop"},
    "elements.delete": lambda w: {"element_id": w.element()},
    "elements.values": lambda w: {"key": "text"},
    "persons.list": lambda w: {"limit": 5},
    "persons.retrieve": lambda w: {"person_id": w.person()},
    "persons.update": lambda w: {"person_id": w.person(), "properties": {"plan": "pro"}},
    "persons.delete": lambda w: {"person_id": w.person(), "delete_events": True},
    "persons.bulk_delete": lambda w: {"ids": [w.person()]},
    "persons.activity": lambda w: {"person_id": w.person()},
    "persons.delete_property": lambda w: {"person_id": w.person(), "key": "email"},
    "persons.properties_timeline": lambda w: {"person_id": w.person()},
    "persons.batch_by_distinct_ids": lambda w: {"distinct_ids": [w.distinct_id()]},
    "persons.batch_by_uuids": lambda w: {"uuids": [w.person()]},
    "dashboards.retrieve": lambda w: {"dashboard_id": w.dashboard()},
    "dashboards.update": lambda w: {"dashboard_id": w.dashboard(), "description": "d"},
    "dashboards.soft_delete": lambda w: {"dashboard_id": w.dashboard()},
    "dashboards.restore": lambda w: {"dashboard_id": w.gone_dashboard()},
    "dashboards.sharing": lambda w: {"dashboard_id": w.dashboard()},
    "dashboards.move_tile": lambda w: {
        "dashboard_id": w.dashboard(),
        "tile_id": w.tile(),
        "to_dashboard": w.another_dashboard(),
    },
    "dashboards.create_from_template_json": lambda w: {
        "template": {
            "template_name": "t",
            "dashboard_description": "",
            "dashboard_filters": {},
            "tags": [],
            "tiles": [],
        }
    },
    "dashboards.remove_collaborator": lambda w: w.collaborator(),
    "dashboards.run_insights": lambda w: {"dashboard_id": w.dashboard()},
    "events.list": lambda w: {**w.window(), "limit": 5},
    "events.retrieve": lambda w: {"event_id": w.event()},
    "queries.start": lambda w: {"query": HOGQL},
    "queries.status": lambda w: {"query_id": w.query()},
    "queries.cancel": lambda w: {"query_id": w.query()},
    "batch_exports.retrieve": lambda w: {"batch_export_id": w.batch_export()},
    "batch_exports.pause": lambda w: {"batch_export_id": w.batch_export()},
    "batch_exports.unpause": lambda w: {"batch_export_id": w.batch_export()},
    "batch_exports.runs": lambda w: {"batch_export_id": w.batch_export(), "after": "-7d"},
    "batch_exports.run": lambda w: {"batch_export_id": w.batch_export(), "run_id": w.run()},
    "batch_exports.retry_run": lambda w: {"batch_export_id": w.batch_export(), "run_id": w.run()},
    "batch_exports.cancel_run": lambda w: {"batch_export_id": w.batch_export(), "run_id": w.running()},
    "batch_exports.backfills": lambda w: {"batch_export_id": w.batch_export()},
    "batch_exports.start_backfill": lambda w: dict(
        zip(("batch_export_id", "start_at", "end_at"), (w.batch_export(), *w.day()), strict=True)
    ),
    "batch_exports.backfill": lambda w: {"batch_export_id": w.batch_export(), "backfill_id": w.backfill()},
    "batch_exports.cancel_backfill": lambda w: {"batch_export_id": w.batch_export(), "backfill_id": w.backfill()},
    "file_downloads.start": lambda w: {
        "model": "events",
        "data_interval_start": w.window()["after"],
        "data_interval_end": w.window()["before"],
    },
    "file_downloads.retrieve": lambda w: {"file_download_id": w.file_download()},
    "file_downloads.download": lambda w: w.file(),
    "file_downloads.cancel": lambda w: {"file_download_id": w.file_download()},
    "warehouse.source": lambda w: {"source_id": w.source()},
    "warehouse.reload_source": lambda w: {"source_id": w.source()},
    "warehouse.source_jobs": lambda w: {"source_id": w.source()},
    "warehouse.schema": lambda w: {"schema_id": w.schema()},
    "warehouse.reload_schema": lambda w: {"schema_id": w.schema()},
    "warehouse.resync_schema": lambda w: {"schema_id": w.schema()},
    "warehouse.cancel_schema": lambda w: {"schema_id": w.syncing()},
    "warehouse.view": lambda w: {"view_id": w.view()},
    "warehouse.run_view": lambda w: {"view_id": w.view()},
    "warehouse.view_runs": lambda w: {"view_id": w.view()},
    "warehouse.cancel_view": lambda w: {"view_id": w.running_view()},
    "warehouse.refresh_table": lambda w: {"table_id": w.table()},
    "data_quality.table_checks": lambda w: {"table_id": w.table()},
    "data_quality.run_table_checks": lambda w: {"table_id": w.table()},
    "data_quality.run_table_check": lambda w: dict(
        zip(("table_id", "check_id"), w.check("warehouse_tables").values(), strict=True)
    ),
    "data_quality.table_suite": lambda w: w.checked("table"),
    "data_quality.table_check_runs": lambda w: w.checked("table"),
    "data_quality.view_checks": lambda w: {"view_id": w.view()},
    "data_quality.run_view_checks": lambda w: {"view_id": w.view()},
    "data_quality.run_view_check": lambda w: dict(
        zip(("view_id", "check_id"), w.check("warehouse_saved_queries").values(), strict=True)
    ),
    "data_quality.view_suite": lambda w: w.checked("view"),
    "data_quality.view_check_runs": lambda w: w.checked("view"),
    "cohorts.retrieve": lambda w: {"cohort_id": w.cohort()},
    "cohorts.create_static": lambda w: {"name": "n", "query": PERSONS},
    "cohorts.add_by_query": lambda w: {"cohort_id": w.cohort(), "query": PERSONS},
    "cohorts.remove_person": lambda w: w.member(),
    "annotations.create": lambda w: {"content": "c", "date_marker": "2026-11-01T00:00:00Z"},
    "annotations.update": lambda w: {"annotation_id": w.annotation(), "content": "other"},
    "feature_flags.retrieve": lambda w: {"flag_id": w.record("feature_flags")},
    "feature_flags.update": lambda w: {"flag_id": w.record("feature_flags"), "active": False},
    "experiments.retrieve": lambda w: {"experiment_id": w.experiment()},
    "experiments.recalculate": lambda w: {"experiment_id": w.experiment()},
    "experiments.recalculation": lambda w: w.recalculation(),
    "experiments.timeseries": lambda w: {"experiment_id": w.experiment(), "metric_uuid": "m", "fingerprint": "f"},
    "query_endpoints.run": lambda w: {"name": "events-by-day"},
    "projects.retrieve": lambda w: {"project_id": w.posthog.project_id},
}

NAMES = pytest.mark.parametrize("name", sorted(catalog.CATALOG))
#: A file is fetched with a download, which only the operator does.
SENT = pytest.mark.parametrize("name", sorted(set(catalog.CATALOG) - FILES))


@pytest.fixture
def world(posthog: EmulatorProcess) -> World:
    return World(posthog)


def arguments(world: World, name: str) -> dict[str, Any]:
    return dict(ARGUMENTS.get(name, lambda w: {})(world))


@pytest.mark.filterwarnings("ignore::airflow_provider_posthog.exceptions.PostHogDeprecatedEndpointWarning")
@SENT
def test_both_clients_answer_alike(world: World, name: str) -> None:
    blocking = world.client.send(catalog.build(name, arguments(world, name)))

    world.posthog.reset()
    again = World(world.posthog)

    async def send() -> Any:
        async with AsyncClient(again.settings) as client:
            return await client.send(catalog.build(name, arguments(again, name)))

    asynchronous = asyncio.run(send())
    assert type(blocking) is type(asynchronous)
    if isinstance(blocking, dict):
        assert sorted(blocking) == sorted(asynchronous)


@pytest.mark.filterwarnings("ignore::airflow_provider_posthog.exceptions.PostHogDeprecatedEndpointWarning")
@NAMES
def test_the_operator_does_it(world: World, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", world.posthog.airflow_connection_json())
    given = json.loads(json.dumps(arguments(world, name)))  # what a template or an XCom can bring
    output = tmp_path / "out"
    operator = PostHogApiOperator(task_id="call", call=name, arguments=given, path=str(output))
    result = operator.execute({})
    assert json.loads(json.dumps(result)) == result
    if name in FILES:
        assert output.stat().st_size == result["bytes"] > 0


def test_every_endpoint_that_needs_arguments_has_some() -> None:
    assert set(ARGUMENTS) <= set(catalog.CATALOG)
    assert persons.list.name == "persons.list"
