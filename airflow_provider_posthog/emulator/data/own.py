"""What tests give a project besides its events and persons, and what a reset takes away again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.catalog import Action, Catalog, Cohort, Step
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.schema import tables
from airflow_provider_posthog.emulator.hogql.schema_types import Table
from airflow_provider_posthog.emulator.hogql.system import (
    Rows,
    clickhouse_name,
    create_statement,
    lines_of,
    system_tables,
)
from airflow_provider_posthog.emulator.hogql.translate import Rules, translate

Run = Callable[[str], bytes]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,3}")
# the start of ClickHouse's type -> the kind of the column
_KINDS = {
    "DateTime": "datetime",
    "Date": "date",
    **dict.fromkeys(("Int", "UInt"), "integer"),
    **dict.fromkeys(("Float", "Decimal"), "number"),
    **dict.fromkeys(("String", "FixedString"), "string"),
    "UUID": "uuid",
}
_INPUT = "SETTINGS date_time_input_format='best_effort', input_format_null_as_default=1"


class OwnError(ValueError):
    """Something that a project cannot have; the text says what is wrong with it."""


@dataclass
class OwnTables:
    """Cohorts, actions, warehouse tables, views, and rows of tables that PostHog fills by itself.

    :param run: runs ClickHouse SQL, in which ``{db}`` is the project's database
    :param team: the project's id
    """

    run: Run
    team: int = 1
    #: rows of the tables that show the server's own state, by the table
    rows: dict[str, Rows] = field(default_factory=dict)
    cohorts: dict[int, Cohort] = field(default_factory=dict)
    actions: dict[int, Action] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)

    def catalog(self) -> Catalog:
        """Return what queries may name."""
        return Catalog(self.tables, self.views, self.cohorts, self.actions)

    def clear(self) -> None:
        """Take everything away."""
        for name in self.tables:
            self.run(f"DROP TABLE IF EXISTS {{db}}.{clickhouse_name(name)}")
        if self.cohorts:
            for table in ("cohort_people", "static_cohort_people"):
                self.run(f"TRUNCATE TABLE {{db}}.{table}")
        for stored in (self.rows, self.cohorts, self.actions, self.tables, self.views):
            stored.clear()

    def add_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows of a table that shows the server's own state.

        :param name: such as ``logs`` or ``system.source_sync_jobs``
        :param rows: values by column; what is missing is null
        :raises OwnError: for a table or a column that does not exist
        """
        known = system_tables().get(name)
        if known is None:
            raise OwnError(f"There is no table {name!r} to add to. There are: {', '.join(sorted(system_tables()))}.")
        refuse_unknown(name, known.star(), rows)
        added = [{"team_id": self.team, **row} for row in rows]
        lines = lines_of(name, added)
        try:
            # the table is made anew for each query of it; here ClickHouse only says whether it can hold the rows
            self.run(create_statement("{db}", name))
            if lines:
                self.run(f"INSERT INTO {{db}}.{clickhouse_name(name)} {_INPUT} FORMAT JSONEachRow {lines}")
        except RuntimeError as error:
            raise OwnError(f"Table {name!r}: {str(error)[:300]}") from None
        self.rows.setdefault(name, []).extend(added)

    def add_cohort(self, cohort: Cohort, members: Iterable[str]) -> None:
        """Add a cohort, or members to one that is there.

        :param cohort: what it is
        :param members: uuids of persons
        """
        self.cohorts[cohort.id] = cohort
        lines = [json.dumps({"person_id": person_id, "cohort_id": cohort.id}) for person_id in members]
        if lines:
            insert = f"INSERT INTO {_people(cohort)} (person_id, cohort_id) FORMAT JSONEachRow "
            self.run(insert + "\n".join(lines))

    def remove_member(self, cohort: Cohort, uuid: str) -> None:
        """Take a person out of a cohort.

        :param cohort: which
        :param uuid: of the person, one of its members
        """
        where = f"cohort_id = {cohort.id} AND person_id = '{uuid}'"
        self.run(f"DELETE FROM {_people(cohort)} WHERE {where} SETTINGS lightweight_deletes_sync=2")  # noqa: S608

    def members(self, cohort: Cohort) -> list[str]:
        """Return the uuids of a cohort's members.

        :param cohort: which
        """
        where = f"cohort_id = {cohort.id}"
        sql = f"SELECT DISTINCT person_id FROM {_people(cohort)} WHERE {where} ORDER BY person_id"  # noqa: S608
        return self.run(sql).decode().split()

    def add_action(self, name: str, steps: Sequence[Mapping[str, object]]) -> Action:
        """Add an action.

        :param name: of the action
        :param steps: each with some of ``event``, ``url``, ``url_matching`` and ``properties`` (values by name)
        :raises OwnError: for anything else in a step
        """
        known = {"event", "url", "url_matching", "properties"}
        for step in steps:
            if unknown := set(step) - known:
                raise OwnError(f"A step has no {min(unknown)!r}. It takes: {', '.join(sorted(known))}.")
            if step.get("url_matching", "contains") not in ("contains", "exact", "regex"):
                raise OwnError("'url_matching' takes contains, exact or regex.")
        action = Action(len(self.actions) + 1, name, tuple(Step(**step) for step in steps))  # type: ignore[arg-type]
        self.actions[action.id] = action
        return action

    def add_table(self, name: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
        """Add a table of PostHog's warehouse.

        :param name: such as ``hubspot_contacts`` or ``stripe.charges``
        :param columns: ClickHouse's types by column
        :param rows: values by column
        :raises OwnError: for a name that is taken or none, or when ClickHouse takes a column or a row not
        """
        self._free(name)
        for column in columns:
            if not isinstance(column, str) or not re.fullmatch(r"[A-Za-z_$][\w$]*", column):
                raise OwnError(f"{column!r} is not a name of a column.")
        refuse_unknown(name, columns, rows)
        stored = clickhouse_name(name)
        listed = ", ".join(f"`{column}` {kind}" for column, kind in columns.items())
        team = "" if "team_id" in columns else f", team_id Int64 DEFAULT {self.team}"
        try:
            self.run(f"CREATE TABLE {{db}}.{stored} ({listed}{team}) ENGINE = MergeTree ORDER BY tuple()")
            if rows:
                lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
                self.run(f"INSERT INTO {{db}}.{stored} {_INPUT} FORMAT JSONEachRow {lines}")
        except RuntimeError as error:
            self.run(f"DROP TABLE IF EXISTS {{db}}.{stored}")
            raise OwnError(f"Table {name!r}: {str(error)[:300]}") from None
        fields = {column: Column(_kind(kind), "Nullable" in kind) for column, kind in columns.items()}
        self.tables[name] = Table(name, {**fields})

    def add_view(self, name: str, query: str) -> None:
        """Add a view.

        :param name: of the view
        :param query: its HogQL
        :raises OwnError: for a name that is taken or none, or HogQL that this project cannot answer
        """
        self._free(name)
        try:
            translate(query, {}, Rules("UTC", "", personal_api_key=False, catalog=self.catalog()))
        except HogQLError as error:
            raise OwnError(f"View {name!r}: {error.detail}") from None
        self.views[name] = query

    def _free(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise OwnError(f"{name!r} is not a name of a table: write letters, digits, _ and dots.")
        if name in tables(newer=True) or name in self.tables or name in self.views:
            raise OwnError(f"There is a table {name!r} already.")


def refuse_unknown(table: str, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Refuse rows with a column that their table does not have.

    :param table: its name
    :param columns: what it has
    :param rows: values by column
    :raises OwnError: that names the column
    """
    known = {*columns, "team_id"}
    for row in rows:
        if unknown := set(row) - known:
            raise OwnError(f"Table {table!r} has no column {min(unknown)!r}.")


def _people(cohort: Cohort) -> str:
    return "{db}." + ("static_cohort_people" if cohort.is_static else "cohort_people")


def _kind(kind: str) -> str:
    """Return the kind of a ClickHouse type, as HogQL needs it."""
    inner = re.sub(r"^(?:Nullable|LowCardinality)\((.*)\)$", r"\1", re.sub(r"^LowCardinality\((.*)\)$", r"\1", kind))
    return next((known for start, known in _KINDS.items() if inner.startswith(start)), "other")
