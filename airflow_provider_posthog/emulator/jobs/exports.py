"""Exports: from creation over the worker's attempts to the file, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.auth import ApiKey, User
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json
from airflow_provider_posthog.emulator.jobs.csv_writer import (
    RECORDINGS,
    Table,
    TooManyColumns,
    write_csv,
    write_png,
    write_xlsx,
)
from airflow_provider_posthog.emulator.jobs.runner import run, to_table, unwrap
from airflow_provider_posthog.emulator.jobs.work import Work

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.insights.dashboards import Dashboard
    from airflow_provider_posthog.emulator.insights.insights import Insight

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PNG = "image/png"
FORMATS = {PNG: "png", "application/pdf": "pdf", CSV: "csv", XLSX: "xlsx", "application/json": "json"}
VIDEO_FORMATS = {"video/mp4": "mp4", "video/webm": "webm", "image/gif": "gif"}
EXTENSIONS = {**FORMATS, **VIDEO_FORMATS}
STUCK = (
    "Export failed without throwing an exception. Please try to rerun this export and contact support if it fails to "
    "complete multiple times."
)
UNAUTHORIZED = "This export could not verify its original authorization. Create a new export and try again."
# PostHog waits this much longer than a query may take before it calls an export stuck
STUCK_GRACE = 30.0
# recordings may be rendered for so long
STUCK_VIDEO = 4500.0


class ExportFailed(Exception):
    """The worker could not make the file; the text becomes the export's ``exception``."""


@dataclass
class Plan:
    """What will become of an export.

    :param outcome: one of ``succeed``, ``exception``, ``exception_then_success``, ``silent_failure``, ``slow``.
    :param seconds: how long it takes.
    :param exception_text: what it fails with.
    :param content: these bytes instead of rendered ones.
    """

    outcome: str
    seconds: float
    exception_text: str
    content: bytes | None = None


@dataclass
class Script:
    """A plan for the next exports only; parts that are None follow the settings.

    :param count: for how many exports.
    """

    outcome: str | None = None
    count: int = 1
    export_seconds: float | None = None
    exception_text: str | None = None
    content: str | None = None


@dataclass
class Export:
    """One export. ``content`` and ``exception`` are what the worker has written."""

    id: int
    key: ApiKey
    export_format: str
    export_context: object
    created_at: datetime
    expires_after: datetime
    plan: Plan
    insight: Insight | None = None
    dashboard: Dashboard | None = None
    content: bytes | None = None
    exception: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def context(self, name: str) -> object:
        """Return a part of ``export_context``, or None.

        :param name: of the part.
        """
        return self.export_context.get(name) if isinstance(self.export_context, dict) else None

    def filename(self, *, dated: bool) -> str:
        """Return the name of the file.

        :param dated: with the time of creation in it, as newer servers have it.
        """
        name = "export"
        wanted = self.context("filename")
        if wanted:
            name = slugify(str(wanted))
        elif self.dashboard is not None and self.dashboard.name is not None:
            name += f"-{slugify(self.dashboard.name)}"
        elif self.insight is not None:
            name += f"-{slugify(self.insight.name or self.insight.derived_name or 'insight')}"
        stamp = f"-{self.created_at:%Y-%m-%d-%H%M%S}" if dated else ""
        return f"{name}{stamp}.{EXTENSIONS[self.export_format]}"


def slugify(text: str) -> str:
    """Return a text as Django writes it into addresses: ``My file!`` becomes ``my-file``.

    :param text: any text.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain.lower())).strip("-_")


class ExportService:
    """All exports of the project and the worker that makes their files.

    :param core: the clock, the settings, the store.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._exports: dict[int, Export] = {}
        self._last_id = 0
        self.scripts: list[Script] = []

    def create(
        self,
        key: ApiKey,
        export_format: str,
        context: object,
        insight: Insight | None,
        dashboard: Dashboard | None,
        expires: datetime | None = None,
    ) -> Export:
        """Make an export and set the worker on it.

        :param key: that calls; only its owner sees the export.
        :param export_format: a key of :data:`EXTENSIONS`.
        :param context: ``export_context`` as sent.
        :param insight: what to export, or None.
        :param dashboard: what to export, or None.
        :param expires: when it expires; None for what its format says.
        """
        now = self._core.clock.now()
        self._last_id += 1
        days = self._core.settings.table_days if export_format in (CSV, XLSX) else 180
        if export_format in VIDEO_FORMATS:
            days = 365
        expires = expires or (now + timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        made = Export(
            self._last_id, key, export_format, context, now, expires, self._plan(), insight=insight, dashboard=dashboard
        )
        self._exports[made.id] = made
        self._core.background(self._process(made))
        return made

    def _plan(self) -> Plan:
        settings = self._core.settings
        script = self.scripts[0] if self.scripts else Script()
        if self.scripts:
            script.count -= 1
            if script.count <= 0:
                self.scripts.pop(0)
        return Plan(
            settings.export_outcome if script.outcome is None else script.outcome,
            settings.export_seconds if script.export_seconds is None else script.export_seconds,
            script.exception_text or settings.exception_text,
            None if script.content is None else script.content.encode(),
        )

    def all(self) -> list[Export]:
        """Return every export that was ever made, oldest first."""
        return list(self._exports.values())

    def visible(self, user: User) -> list[Export]:
        """Return the exports that a user sees: their own that have not expired, newest first.

        :param user: who asks.
        """
        now = self._core.clock.now()
        own = [
            export for export in self._exports.values() if export.key.user.id == user.id and export.expires_after > now
        ]
        return sorted(own, key=lambda export: (export.created_at, export.id), reverse=True)

    def find(self, user: User, export_id: str) -> Export | None:
        """Return an export that a user sees, or None.

        :param user: who asks.
        :param export_id: from the path.
        """
        return next((export for export in self.visible(user) if str(export.id) == export_id), None)

    def exception(self, export: Export) -> str | None:
        """Return the reason that clients see, which for a stuck export is made up when they look.

        :param export: the export.
        """
        if export.content is not None or export.exception:
            return export.exception
        age = (self._core.clock.now() - export.created_at).total_seconds()
        patience = STUCK_VIDEO if export.export_format in VIDEO_FORMATS else self._core.settings.stuck_seconds
        return STUCK if age > patience + STUCK_GRACE else None

    def as_json(self, export: Export) -> Json:
        """Return the object of the API: the newest server's fields, or those of October 2024.

        :param export: the export.
        """
        body: Json = {
            "id": export.id,
            "dashboard": export.dashboard.id if export.dashboard else None,
            "insight": export.insight.id if export.insight else None,
            "export_format": export.export_format,
            "created_at": iso(export.created_at),
            "has_content": export.content is not None,
            "export_context": export.export_context,
            "expires_after": (iso_or_none(export.expires_after) or "").replace(".000000", ""),
        }
        if export.export_context is None or isinstance(export.export_context, dict):
            body["filename"] = export.filename(dated=self._core.settings.dated_filenames)
        if self._core.settings.exceptions_reported:
            body |= {"exception": self.exception(export), "user_access_level": "manager"}
        return body

    async def _process(self, export: Export) -> None:
        try:
            await self._attempt(export)
        finally:
            export.ended.set()

    async def _attempt(self, export: Export) -> None:
        plan, clock = export.plan, self._core.clock
        await clock.sleep(self._core.settings.slow_seconds if plan.outcome == "slow" else plan.seconds)
        if plan.outcome == "silent_failure":
            return
        if plan.outcome in ("exception", "exception_then_success"):
            export.exception = plan.exception_text
            if plan.outcome == "exception":
                return
            # the worker's next attempt clears what the first has left
            await clock.sleep(self._core.settings.retry_seconds)
        try:
            content = plan.content if plan.content is not None else await self._render(export)
        except (ExportFailed, HogQLError, ApiError, TooManyColumns) as error:
            export.exception = _reason(error)
            return
        export.content, export.exception = content, None

    async def _render(self, export: Export) -> bytes:
        if export.key.revoked:
            raise ExportFailed(UNAUTHORIZED)
        if export.export_format == PNG:
            return write_png(await self._shown(export))
        if export.export_format in RECORDINGS:
            return RECORDINGS[export.export_format]
        if export.export_format not in (CSV, XLSX):
            raise ExportFailed(f"Export to format {export.export_format} is not supported for insights")
        table = await self._table(export)
        wanted = export.context("columns")
        columns = [str(column) for column in wanted] if isinstance(wanted, list) and wanted else None
        if export.export_format == XLSX:
            return await asyncio.to_thread(write_xlsx, table, columns)
        sanitize = self._core.settings.sanitize_formulas
        return await asyncio.to_thread(lambda: write_csv(table, columns, sanitize=sanitize))

    async def _shown(self, export: Export) -> str:
        """Calculate what a picture shows once more, as PostHog does, and return when each insight was calculated."""
        project, on = f"/api/projects/{self._core.project.id}", ""
        if export.insight is not None:
            on = f"&from_dashboard={export.dashboard.id}" if export.dashboard else ""
            path = f"{project}/insights/{export.insight.id}/?refresh=force_blocking{on}"
        elif export.dashboard is not None:
            path = f"{project}/dashboards/{export.dashboard.id}/?refresh=force_blocking"
        else:
            return ""
        _, body = await self._core.get_internally(export.key, path)
        shown = [tile.get("insight") for tile in body.get("tiles") or ()] if export.insight is None else [body]
        return "; ".join(f"{insight.get('id')} {insight.get('last_refresh')}" for insight in shown if insight)

    async def _table(self, export: Export) -> Table:
        cap = self._core.settings.csv_row_cap
        source = export.context("source")
        if source:
            node = unwrap(source)
            hidden = self._core.settings.hidden_months()
            without = self._core.settings.missing_tables()
            work = Work(self._core.warehouse, node, self._core.clock.now(), "export", False, hidden, without)
            return to_table(await asyncio.to_thread(run, work), cap)
        path = export.context("path")
        if not path:
            # the worker looks at export_context only: an insight alone gives it nothing to run
            raise ExportFailed("'path'")
        return await self._table_of_path(export.key, str(path), cap)

    async def _table_of_path(self, key: ApiKey, path: str, cap: int) -> Table:
        table, following = Table(), path
        while following and len(table.rows) < cap:
            status, body = await self._core.get_internally(key, following)
            if status == 404 and table.rows:
                break
            if status != 200:
                raise ExportFailed(f"export API call failed with status_code: {status}. {body}")
            table.rows += to_table(body, cap - len(table.rows)).rows
            following = str(body.get("next") or "")
        return table


def _reason(error: Exception) -> str:
    if isinstance(error, HogQLError):
        return error.detail
    if isinstance(error, ApiError) and error.body:
        return str(error.body["detail"])
    return str(error)
