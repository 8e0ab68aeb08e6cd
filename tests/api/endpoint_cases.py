"""For each endpoint: arguments with everything in them, and the request that PostHog wants for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

UUID = "01a200ca-b698-0000-24c1-84e2ab7ef77e"
OTHER = "01a20104-0ea3-0000-377d-bff1b95c70a4"
NOON = datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=1)))
PLAN = [{"key": "plan", "value": "pro", "operator": "exact", "type": "person"}]
PLAN_JSON = '[{"key": "plan", "value": "pro", "operator": "exact", "type": "person"}]'
ACTIVITY = {"limit": "20", "page": "2"}
INSIGHT = {
    "query": {"kind": "HogQLQuery", "query": "SELECT 1"},
    "name": "n",
    "derived_name": "dn",
    "description": "",
    "tags": ["t"],
    "dashboards": [1, 2],
    "favorited": False,
    "saved": True,
    "order": 0,
}
ELEMENT = {
    "text": "go",
    "tag_name": "a",
    "attr_class": ["b", "c"],
    "href": "/x",
    "attr_id": "i",
    "nth_child": 1,
    "nth_of_type": 2,
    "attributes": {"data": "1"},
    "order": 0,
}
PAGE = {"next": None, "results": [{"id": 1}]}
THING = {"id": 1}


@dataclass(frozen=True)
class Case:
    """One endpoint's request.

    :param name: the endpoint.
    :param arguments: what it is given.
    :param method: the HTTP method that must arrive.
    :param path: the path that must arrive, after the project's if it is relative.
    :param query: the query string, in order; a name may come twice.
    :param body: the JSON body; ``None`` for none.
    :param reply: what the server answers, as JSON; ``None`` for no body.
    :param value: what must come of it; by default the reply.
    :param status: the answer's status.
    """

    name: str
    arguments: dict[str, Any]
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    reply: Any = field(default_factory=lambda: THING)
    value: Any = ...
    status: int = 200


def pairs(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(values.items())


def get(name: str, path: str, reply: Any = None, query: tuple[tuple[str, str], ...] = (), /, **arguments: Any) -> Case:
    return Case(name, arguments, "GET", path, query, reply=THING if reply is None else reply)


def post(name: str, path: str, body: Any, /, *, status: int = 200, reply: Any = THING, **arguments: Any) -> Case:
    return Case(name, arguments, "POST", path, body=body, reply=reply, status=status)


def patch(name: str, path: str, body: Any, /, **arguments: Any) -> Case:
    return Case(name, arguments, "PATCH", path, body=body)


def nothing(name: str, path: str, /, **arguments: Any) -> Case:
    """A POST that is answered without a body."""
    return Case(name, arguments, "POST", path, reply=None, value=None)


_BATCH = f"batch_exports/{UUID}/"
_FILES = "file_download_batch_exports/"
_BATCH_IDS = {"batch_export_id": UUID}
_ROWS = [{"name": "x", "count": 1}]

EXPORTS = [
    get(
        "exports.list",
        "exports/",
        PAGE,
        pairs(export_format="text/csv", limit="5", offset="10"),
        export_format="text/csv",
        limit=5,
        offset=10,
    ),
    post(
        "exports.create",
        "exports/",
        {"export_format": "text/csv", "insight": 3, "dashboard": 4, "export_context": {"filename": "f"}},
        status=201,
        export_format="text/csv",
        insight=3,
        dashboard=4,
        export_context={"filename": "f"},
    ),
    get("exports.retrieve", "exports/42/", export_id=42),
    Case(
        "exports.content",
        {"export_id": 42},
        "GET",
        "exports/42/content/",
        pairs(download="true"),
        value=b'{"id": 1}',
    ),
]
GROUPS = [
    get(
        "groups.list",
        "groups/",
        PAGE,
        pairs(group_type_index="0", search="ac&me", cursor="c="),
        group_type_index=0,
        search="ac&me",
        cursor="c=",
    ),
    get(
        "groups.find",
        "groups/find/",
        None,
        pairs(group_type_index="4", group_key="acme:1", skip_create_notebook="true"),
        group_type_index=4,
        group_key="acme:1",
    ),
    get("groups.property_definitions", "groups/property_definitions/", {"0": [{"name": "industry", "count": 2}]}),
    Case(
        "groups.property_values",
        {"group_type_index": 1, "key": "industry", "value": "i"},
        "GET",
        "groups/property_values/",
        pairs(group_type_index="1", key="industry", value="i"),
        reply={"results": _ROWS, "refreshing": False},
        value=_ROWS,
    ),
    get("groups.types", "groups_types/", [{"group_type": "company", "group_type_index": 0}]),
]
INSIGHTS = [
    get(
        "insights.list",
        "insights/",
        PAGE,
        pairs(short_id="Ab3", basic="true", created_by="[1, 2]", refresh="force_cache", limit="5", offset="5"),
        short_id="Ab3",
        basic=True,
        created_by=(1, 2),
        refresh="force_cache",
        limit=5,
        offset=5,
    ),
    post(
        "insights.create",
        "insights/",
        INSIGHT | {"_create_in_folder": "etl"},
        status=201,
        create_in_folder="etl",
        **INSIGHT,
    ),
    get(
        "insights.retrieve",
        "insights/7/",
        None,
        pairs(
            refresh="force_blocking",
            from_dashboard="2",
            filters_override='{"date_from": "-7d"}',
            variables_override='{"v": {"code_name": "x"}}',
            client_query_id="i",
        ),
        insight_id=7,
        refresh="force_blocking",
        from_dashboard=2,
        filters_override={"date_from": "-7d"},
        variables_override={"v": {"code_name": "x"}},
        client_query_id="i",
    ),
    patch("insights.update", "insights/7/", INSIGHT, insight_id="7", **INSIGHT),
    patch("insights.soft_delete", "insights/7/", {"deleted": True}, insight_id=7),
    patch("insights.restore", "insights/7/", {"deleted": False}, insight_id=7),
    get("insights.sharing", "insights/7/sharing/", insight_id=7),
    get("insights.activity", "insights/7/activity/", PAGE, pairs(**ACTIVITY), insight_id=7, limit=20, page=2),
    get("insights.activity_of_all", "insights/activity/", PAGE, pairs(**ACTIVITY), limit=20, page=2),
    get("insights.analyze", "insights/7/analyze/", {"result": "text"}, insight_id=7),
    get("insights.suggestions", "insights/7/suggestions/", [{"title": "x"}], insight_id=7),
    post(
        "insights.post_suggestions",
        "insights/7/suggestions/",
        {"name": "n"},
        reply=[{"title": "x"}],
        insight_id=7,
        body={"name": "n"},
    ),
    Case(
        "insights.cancel",
        {"client_query_id": "q"},
        "POST",
        "insights/cancel/",
        body={"client_query_id": "q"},
        reply=None,
        status=201,
    ),
    get(
        "insights.trend",
        "insights/trend/",
        None,
        pairs(events='[{"id": "$pageview"}]', date_from="-3d", compare="true"),
        filters={"events": [{"id": "$pageview"}], "date_from": "-3d", "compare": True, "interval": None},
    ),
    post("insights.post_trend", "insights/trend/", {"events": []}, filters={"events": []}),
]
ELEMENTS = [
    get("elements.list", "elements/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    post("elements.create", "elements/", ELEMENT, status=201, **ELEMENT),
    get("elements.retrieve", "elements/3/", element_id=3),
    patch("elements.update", "elements/3/", ELEMENT, element_id=3, **ELEMENT),
    Case("elements.delete", {"element_id": 3}, "DELETE", "elements/3/", reply=None, status=204),
    get(
        "elements.stats",
        "elements/stats/",
        PAGE,
        (
            ("include", "$rageclick"),
            ("include", "$dead_click"),
            *pairs(date_from="-7d", date_to="2026-11-01", properties=PLAN_JSON, limit="5", offset="0"),
        ),
        include=["$rageclick", "$dead_click"],
        date_from="-7d",
        date_to="2026-11-01",
        properties=PLAN,
        limit=5,
        offset=0,
    ),
    get("elements.values", "elements/values/", _ROWS, pairs(key="href", value="/x"), key="href", value="/x"),
]
PERSONS = [
    get(
        "persons.list",
        "persons/",
        PAGE,
        pairs(
            distinct_id="user 1",
            email="u1+x@example.com",
            search="u1",
            properties=PLAN_JSON,
            limit="1000",
            offset="2000",
        ),
        distinct_id="user 1",
        email="u1+x@example.com",
        search="u1",
        properties=PLAN,
        limit=1000,
        offset=2000,
    ),
    get("persons.retrieve", f"persons/{UUID}/", person_id=UUID),
    Case(
        "persons.update",
        {"person_id": 5, "properties": {"plan": None}},
        "PATCH",
        "persons/5/",
        body={"properties": {"plan": None}},
        reply=None,
        status=202,
    ),
    Case(
        "persons.delete",
        {"person_id": UUID, "delete_events": True, "delete_recordings": True, "keep_person": True},
        "DELETE",
        f"persons/{UUID}/",
        pairs(delete_events="true", delete_recordings="true", keep_person="true"),
        reply=None,
        status=202,
    ),
    post(
        "persons.bulk_delete",
        "persons/bulk_delete/",
        {"ids": [UUID, OTHER], "delete_events": True, "delete_recordings": True, "keep_person": True},
        status=202,
        reply={"persons_found": 2, "deletion_errors": []},
        ids=(UUID, OTHER),
        delete_events=True,
        delete_recordings=True,
        keep_person=True,
    ),
    get("persons.activity", "persons/5/activity/", PAGE, pairs(**ACTIVITY), person_id="5", limit=20, page=2),
    post(
        "persons.delete_property",
        f"persons/{UUID}/delete_property/",
        {"$unset": "email"},
        status=201,
        reply={"success": True},
        person_id=UUID,
        key="email",
    ),
    get("persons.properties_timeline", f"persons/{UUID}/properties_timeline/", person_id=UUID),
    get(
        "persons.deletion_status",
        "persons/deletion_status/",
        PAGE,
        pairs(person_uuid=UUID, status="pending", limit="5", offset="5"),
        person_uuid=UUID,
        status="pending",
        limit=5,
        offset=5,
    ),
    post(
        "persons.batch_by_distinct_ids",
        "persons/batch_by_distinct_ids/",
        {"distinct_ids": ["a@example.com", "b"]},
        reply={"results": {}},
        distinct_ids=["a@example.com", "b"],
    ),
    post("persons.batch_by_uuids", "persons/batch_by_uuids/", {"uuids": [UUID]}, reply={"results": {}}, uuids=[UUID]),
]
DASHBOARDS = [
    get("dashboards.list", "dashboards/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("dashboards.retrieve", "dashboards/2/", None, pairs(refresh="blocking"), dashboard_id=2, refresh="blocking"),
    patch(
        "dashboards.update",
        "dashboards/2/",
        {"name": "n", "description": "", "pinned": False, "tags": [], "restriction_level": 37},
        dashboard_id=2,
        name="n",
        description="",
        pinned=False,
        tags=[],
        restriction_level=37,
    ),
    patch(
        "dashboards.soft_delete",
        "dashboards/2/",
        {"deleted": True, "delete_insights": True},
        dashboard_id=2,
        delete_insights=True,
    ),
    patch("dashboards.restore", "dashboards/2/", {"deleted": False}, dashboard_id=2),
    get("dashboards.sharing", "dashboards/2/sharing/", dashboard_id=2),
    patch(
        "dashboards.move_tile",
        "dashboards/2/move_tile/",
        {"toDashboard": 5, "tile": {"id": 9}},
        dashboard_id=2,
        tile_id=9,
        to_dashboard=5,
    ),
    post(
        "dashboards.create_from_template_json",
        "dashboards/create_from_template_json/",
        {"template": {"template_name": "t", "tiles": []}, "creation_context": "onboarding"},
        template={"template_name": "t", "tiles": []},
        creation_context="onboarding",
    ),
    Case(
        "dashboards.remove_collaborator",
        {"dashboard_id": 2, "user_uuid": UUID},
        "DELETE",
        f"dashboards/2/collaborators/{UUID}/",
        reply=None,
        status=204,
    ),
    get(
        "dashboards.run_insights",
        "dashboards/2/run_insights/",
        {"results": []},
        pairs(refresh="force_blocking", output_format="json"),
        dashboard_id=2,
    ),
]
EVENTS = [
    get(
        "events.list",
        "events/",
        PAGE,
        pairs(
            after="2026-10-31T00:00:00Z",
            before="2026-11-01T12:00:00+01:00",
            orderBy='["timestamp"]',
            limit="10",
            event="$pageview",
            distinct_id="u1@example.com",
            person_id=UUID,
            properties=PLAN_JSON,
        ),
        after="2026-10-31T00:00:00Z",
        before=NOON,
        event="$pageview",
        distinct_id="u1@example.com",
        person_id=UUID,
        properties=PLAN,
        limit=10,
    ),
    get("events.retrieve", f"events/{UUID}/", event_id=UUID),
]
QUERIES = [
    post(
        "queries.start",
        "query/",
        {
            "query": {"kind": "HogQLQuery", "query": "SELECT 1"},
            "refresh": "force_async",
            "client_query_id": "i",
            "name": "n",
        },
        status=202,
        query={"kind": "HogQLQuery", "query": "SELECT 1"},
        refresh="force_async",
        client_query_id="i",
        name="n",
    ),
    Case(
        "queries.status",
        {"query_id": "i/1", "show_progress": True},
        "GET",
        "query/i%2F1/",
        pairs(show_progress="true"),
        reply={"query_status": {"complete": True}},
        value={"complete": True},
    ),
    Case(
        "queries.cancel",
        {"query_id": "i", "dequeue_only": True},
        "DELETE",
        "query/i/",
        pairs(dequeue_only="true"),
        reply={"message": "Cancelled"},
        value=None,
    ),
]
BATCH_EXPORTS = [
    get("batch_exports.list", "batch_exports/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("batch_exports.retrieve", _BATCH, **_BATCH_IDS),
    post("batch_exports.pause", f"{_BATCH}pause/", None, reply={"paused": True}, **_BATCH_IDS),
    post(
        "batch_exports.unpause",
        f"{_BATCH}unpause/",
        {"backfill": True},
        reply={"paused": False},
        backfill=True,
        **_BATCH_IDS,
    ),
    get(
        "batch_exports.runs",
        f"{_BATCH}runs/",
        PAGE,
        pairs(after="-30d", before="2026-11-01T12:00:00+01:00", cursor="c"),
        after="-30d",
        before=NOON,
        cursor="c",
        **_BATCH_IDS,
    ),
    get("batch_exports.run", f"{_BATCH}runs/{OTHER}/", run_id=OTHER, **_BATCH_IDS),
    post(
        "batch_exports.retry_run",
        f"{_BATCH}runs/{OTHER}/retry/",
        None,
        status=201,
        reply={"backfill_id": f"{UUID}-Backfill-x"},
        run_id=OTHER,
        **_BATCH_IDS,
    ),
    post(
        "batch_exports.cancel_run",
        f"{_BATCH}runs/{OTHER}/cancel/",
        None,
        reply={"cancelled": True},
        run_id=OTHER,
        **_BATCH_IDS,
    ),
    get("batch_exports.backfills", f"{_BATCH}backfills/", PAGE, pairs(cursor="c"), cursor="c", **_BATCH_IDS),
    post(
        "batch_exports.start_backfill",
        f"{_BATCH}backfills/",
        {"start_at": "2026-11-01", "end_at": "2026-11-03"},
        status=201,
        reply={"backfill_id": OTHER},
        start_at="2026-11-01",
        end_at=date(2026, 11, 3),
        **_BATCH_IDS,
    ),
    get("batch_exports.backfill", f"{_BATCH}backfills/{OTHER}/", backfill_id=OTHER, **_BATCH_IDS),
    post(
        "batch_exports.cancel_backfill",
        f"{_BATCH}backfills/{OTHER}/cancel/",
        None,
        reply={"cancelled": True},
        backfill_id=OTHER,
        **_BATCH_IDS,
    ),
]
FILE_DOWNLOADS = [
    post(
        "file_downloads.start",
        _FILES,
        {
            "model": "events",
            "file": {"format": "JSONLines", "compression": "gzip", "max_size_mb": 0},
            "data_interval_start": "2026-10-31T00:00:00Z",
            "data_interval_end": "2026-11-01T12:00:00+01:00",
            "include": ["$pageview"],
            "exclude": ["signed up"],
        },
        status=202,
        model="events",
        file_format="JSONLines",
        compression="gzip",
        max_size_mb=0,
        data_interval_start="2026-10-31T00:00:00Z",
        data_interval_end=NOON,
        include=["$pageview"],
        exclude=["signed up"],
    ),
    get("file_downloads.list", _FILES, PAGE),
    get("file_downloads.retrieve", f"{_FILES}{UUID}/", file_download_id=UUID),
    Case(
        "file_downloads.download",
        {"file_download_id": UUID, "file": OTHER},
        "GET",
        f"{_FILES}{UUID}/download/{OTHER}/",
        value=b'{"id": 1}',
    ),
    post(
        "file_downloads.cancel", f"{_FILES}{UUID}/cancel/", None, reply={"status": "Cancelled"}, file_download_id=UUID
    ),
]
_SOURCE, _SCHEMA = f"external_data_sources/{UUID}/", f"external_data_schemas/{UUID}/"
_VIEW, _TABLE = f"warehouse_saved_queries/{UUID}/", f"warehouse_tables/{UUID}/"
WAREHOUSE = [
    get("warehouse.sources", "external_data_sources/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("warehouse.source", _SOURCE, source_id=UUID),
    nothing("warehouse.reload_source", f"{_SOURCE}reload/", source_id=UUID),
    get(
        "warehouse.source_jobs",
        f"{_SOURCE}jobs/",
        [THING],
        pairs(after="2026-11-01T12:00:00+01:00", before="2026-11-01T12:00:00+01:00"),
        source_id=UUID,
        after=NOON,
        before=NOON,
    ),
    get("warehouse.schema", _SCHEMA, schema_id=UUID),
    nothing("warehouse.reload_schema", f"{_SCHEMA}reload/", schema_id=UUID),
    nothing("warehouse.resync_schema", f"{_SCHEMA}resync/", schema_id=UUID),
    nothing("warehouse.cancel_schema", f"{_SCHEMA}cancel/", schema_id=UUID),
    get(
        "warehouse.views",
        "warehouse_saved_queries/",
        PAGE,
        pairs(limit="5", offset="5", search="daily"),
        limit=5,
        offset=5,
        search="daily",
    ),
    get("warehouse.view", _VIEW, view_id=UUID),
    post("warehouse.run_view", f"{_VIEW}run/", {"full_refresh": True}, view_id=UUID, full_refresh=True),
    get("warehouse.view_runs", f"{_VIEW}run_history/", {"run_history": []}, view_id=UUID),
    post("warehouse.cancel_view", f"{_VIEW}cancel/", None, view_id=UUID),
    get(
        "warehouse.tables",
        "warehouse_tables/",
        PAGE,
        pairs(limit="5", offset="5", search="orders"),
        limit=5,
        offset=5,
        search="orders",
    ),
    post("warehouse.refresh_table", f"{_TABLE}refresh_schema/", None, table_id=UUID),
    post(
        "query_endpoints.run",
        "endpoints/daily%20numbers/run/",
        {"variables": {"country": "NL"}, "refresh": "force", "limit": 5},
        name="daily numbers",
        variables={"country": "NL"},
        refresh="force",
        limit=5,
    ),
]
_SQL = {"kind": "HogQLQuery", "query": "SELECT person_id FROM persons LIMIT 5"}
_TABLE_IDS, _VIEW_IDS = {"table_id": UUID}, {"view_id": UUID}
_RUN = f"check_suite_runs/{OTHER}/"
DATA_QUALITY = [
    get(
        "data_quality.table_checks",
        f"{_TABLE}checks/",
        PAGE,
        pairs(limit="5", offset="5"),
        limit=5,
        offset=5,
        **_TABLE_IDS,
    ),
    post("data_quality.run_table_checks", f"{_TABLE}checks/run_all/", None, **_TABLE_IDS),
    post("data_quality.run_table_check", f"{_TABLE}checks/{OTHER}/run/", None, check_id=OTHER, **_TABLE_IDS),
    get("data_quality.table_suite", f"{_TABLE}{_RUN}", run_id=OTHER, **_TABLE_IDS),
    get("data_quality.table_check_runs", f"{_TABLE}{_RUN}check_runs/", _ROWS, run_id=OTHER, **_TABLE_IDS),
    get(
        "data_quality.view_checks",
        f"{_VIEW}checks/",
        PAGE,
        pairs(limit="5", offset="5"),
        limit=5,
        offset=5,
        **_VIEW_IDS,
    ),
    post("data_quality.run_view_checks", f"{_VIEW}checks/run_all/", None, **_VIEW_IDS),
    post("data_quality.run_view_check", f"{_VIEW}checks/{OTHER}/run/", None, check_id=OTHER, **_VIEW_IDS),
    get("data_quality.view_suite", f"{_VIEW}{_RUN}", run_id=OTHER, **_VIEW_IDS),
    get("data_quality.view_check_runs", f"{_VIEW}{_RUN}check_runs/", _ROWS, run_id=OTHER, **_VIEW_IDS),
]
COHORTS = [
    get("cohorts.list", "cohorts/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("cohorts.retrieve", "cohorts/7/", cohort_id=7),
    post(
        "cohorts.create_static",
        "cohorts/",
        {"name": "n", "is_static": True, "query": _SQL},
        status=201,
        name="n",
        query=_SQL,
    ),
    patch("cohorts.add_by_query", "cohorts/7/", {"query": _SQL}, cohort_id=7, query=_SQL),
    patch(
        "cohorts.remove_person",
        "cohorts/7/remove_person_from_static_cohort/",
        {"person_id": UUID},
        cohort_id=7,
        person_id=UUID,
    ),
]
ANNOTATIONS = [
    get(
        "annotations.list",
        "annotations/",
        PAGE,
        pairs(limit="5", offset="5", search="loaded"),
        limit=5,
        offset=5,
        search="loaded",
    ),
    post(
        "annotations.create",
        "annotations/",
        {
            "content": "loaded",
            "date_marker": "2026-11-01T12:00:00+01:00",
            "scope": "organization",
            "emoji": "x",
            "hidden_in_user_interface": True,
        },
        status=201,
        content="loaded",
        date_marker=NOON,
        scope="organization",
        emoji="x",
        hidden=True,
    ),
    patch(
        "annotations.update",
        "annotations/7/",
        {"content": "c", "date_marker": "2026-11-01T12:00:00+01:00"},
        annotation_id=7,
        content="c",
        date_marker=NOON,
    ),
]
FEATURE_FLAGS = [
    get("feature_flags.list", "feature_flags/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("feature_flags.retrieve", "feature_flags/7/", flag_id=7),
    patch(
        "feature_flags.update",
        "feature_flags/7/",
        {
            "filters": {"groups": []},
            "active": False,
            "version": 3,
            "original_flag": {"active": True},
        },
        flag_id=7,
        filters={"groups": []},
        active=False,
        seen={"id": 7, "version": 3, "active": True},
    ),
]
EXPERIMENTS = [
    get("experiments.list", "experiments/", PAGE, pairs(limit="5", offset="5"), limit=5, offset=5),
    get("experiments.retrieve", "experiments/7/", experiment_id=7),
    post(
        "experiments.recalculate",
        "experiments/7/metrics_recalculation/",
        {},
        status=201,
        reply={"id": UUID},
        experiment_id=7,
    ),
    get(
        "experiments.recalculation",
        f"experiments/7/metrics_recalculation/{UUID}/",
        {"id": UUID},
        experiment_id=7,
        run=UUID,
    ),
    get(
        "experiments.timeseries",
        "experiments/7/timeseries_results/",
        {"metric_uuid": UUID, "status": "pending"},
        pairs(metric_uuid=UUID, fingerprint="f"),
        experiment_id=7,
        metric_uuid=UUID,
        fingerprint="f",
    ),
]
PROJECTS = [
    get("projects.retrieve", "/api/projects/9/", project_id=9),
    get("projects.me", "/api/users/@me/"),
]

CASES: dict[str, Case] = {
    case.name: case
    for cases in (
        EXPORTS,
        GROUPS,
        INSIGHTS,
        ELEMENTS,
        PERSONS,
        DASHBOARDS,
        EVENTS,
        QUERIES,
        BATCH_EXPORTS,
        FILE_DOWNLOADS,
        WAREHOUSE,
        DATA_QUALITY,
        COHORTS,
        ANNOTATIONS,
        FEATURE_FLAGS,
        EXPERIMENTS,
        PROJECTS,
    )
    for case in cases
}
