"""Syncs of a warehouse source."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import warehouse
from airflow_provider_posthog.api.arguments import is_uuid, nearest
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import Watched, row, since
from airflow_provider_posthog.exceptions import PostHogError, PostHogNotFoundError, PostHogSettingsError, clean
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator, rows_in_words, total

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.tasks.job import JobArguments


class PostHogSyncSourceOperator(WatchedJobOperator):
    """Syncs a source of PostHog's warehouse, or one table of it, and waits until every sync has succeeded.

    PostHog does not say which sync a request started, and ignores a request while a sync is running. So the task first
    waits for a running sync, which may have read the source before the task's data was there; its own sync is the first
    that PostHog creates after that.

    ::

        PostHogSyncSourceOperator(task_id="sync", source="Postgres", schema="orders", deferrable=True)

    :param source: the source's UUID, or its type or prefix if only one source has it.
    :param schema: one table of it, by its name or UUID; default: all that are switched on.
    :param resync: drop what was loaded and load all of it again, which PostHog bills again; a sync that goes on is
        cancelled.
    :param confirm: has to be True for ``resync``.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``source_id``, ``rows`` (int, of all syncs; null if PostHog does not tell that of one), ``syncs`` (list of
        ``id``, ``schema``, ``status``, ``rows``, ``error``), ``project_id`` (int), ``host``.
    :raises PostHogSettingsError: if the source or table cannot be found, or ``resync`` is not confirmed.
    :raises PostHogJobFailed: if a sync failed, with PostHog's reason, or PostHog has begun none within 15 minutes.
    """

    template_fields: Sequence[str] = (*WatchedJobOperator.template_fields, "source", "schema")

    def __init__(
        self,
        *,
        source: str,
        schema: str | None = None,
        resync: bool = False,
        confirm: bool = False,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.schema = schema
        self.resync = resync
        self.confirm = confirm
        self._asked = ""

    def prepare(self) -> dict[str, Any]:
        """Find the source and its tables."""
        if not isinstance(self.resync, bool):  # the text "false" would drop all that was loaded
            raise PostHogSettingsError("resync", "is not True or False.", "Write one of the two.")
        if self.resync and self.confirm is not True:
            raise PostHogSettingsError(
                "confirm",
                "is not True, and resync drops what PostHog has loaded, and is billed again.",
                "Write confirm=True, or leave out resync.",
            )
        source = self._find_source()
        schemas = [schema for schema in source.get("schemas") or () if isinstance(schema, Mapping) and schema.get("id")]
        if self.schema:
            wanted = [schema for schema in schemas if self.schema in (schema["id"], schema.get("name"))]
            if len(wanted) != 1:
                near = nearest(str(self.schema), [str(schema.get("name")) for schema in schemas])
                raise PostHogSettingsError("schema", f"the source has no {self.schema!r:.60}.{near}", "Write its name.")
        else:
            wanted = [schema for schema in schemas if schema.get("should_sync")]
        if not wanted:
            raise PostHogSettingsError("source", "has no table that is switched on.", "Switch one on in PostHog.")
        names = sorted(str(schema["id"]) for schema in wanted)
        return {"source": str(source["id"]), "schemas": names, "one": bool(self.schema), "resync": self.resync}

    def _find_source(self) -> Mapping[str, Any]:
        text = self.source.strip() if isinstance(self.source, str) else ""
        client = self.hook.client
        if is_uuid(text):
            try:
                return client.send(warehouse.source(text))
            except PostHogNotFoundError as error:
                raise PostHogSettingsError("source", f"PostHog knows no {text}.", "Write its UUID.") from error
        sources = list(client.pages(warehouse.sources()))
        named = [source for source in sources if text and text in (source.get("prefix"), source.get("source_type"))]
        if len(named) != 1:
            kinds = ", ".join(sorted({clean(source.get("source_type"))[:40] for source in sources})) or "none"
            which = f"is {clean(text)[:60]!r}, and the project has {len(named) or 'no'} such sources, but: {kinds}."
            raise PostHogSettingsError("source", which, "Write its type, its prefix or its UUID.")
        return client.send(warehouse.source(str(named[0]["id"])))

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Begin the syncs, when none that was begun before goes on."""
        self._marker = marker
        source_id, schemas = request["source"], ",".join(request["schemas"])
        while True:
            jobs, at = self.server_time(warehouse.source_jobs(source_id))
            mine = [job for job in map(row, jobs) if job["of"] in request["schemas"]]
            if not request["resync"] and any(job["status"] == "Running" for job in mine):
                slot = Watched("sync_slot", (source_id, schemas, self.waiting_since()), int(at))
                self.wait_for_slot(slot, "A sync that was begun before goes on, and may miss what is new")
            elif any((job["created"] or 0.0) >= at for job in mine):
                time.sleep(0.5)  # the new ones are told from those before by whole seconds
            else:
                break
        self._asked = text = str(Watched("sync", (source_id, schemas), int(at)))
        self.keep_before(text, marker)
        try:
            self._begin(request)
        except PostHogError as error:
            self.forget_refused(error)
            raise
        return text, {}

    def _begin(self, request: Mapping[str, Any]) -> None:
        if not request["one"] and not request["resync"]:
            self.hook.client.send(warehouse.reload_source(request["source"]))
            return
        make = warehouse.resync_schema if request["resync"] else warehouse.reload_schema
        for schema in request["schemas"]:
            self.hook.client.send(make(schema))

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the syncs that a request has begun whose answer was lost."""
        if not self._asked:
            return
        watched = Watched.parse(self._asked)
        syncs = self.look(watched)
        if len({job["of"] for job in since(watched, syncs["rows"])}) == len(watched.schemas):
            yield Job(self._asked, self._marker, float(watched.since)), self.job_kind.judge(syncs)

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return what was loaded."""
        watched, settings = Watched.parse(job.id), self.hook.settings()
        source = self.hook.client.send(warehouse.source(watched.names[0]))
        names = {str(schema.get("id")): schema.get("name") for schema in source.get("schemas") or ()}
        result = {"source_id": watched.names[0], "project_id": settings.project_id, "host": settings.base_url}
        if not self.wait_for_completion:
            return result
        first = {job["of"]: job for job in reversed(since(watched, self.look(watched)["rows"]))}
        syncs = [
            {"id": job["id"], "schema": names.get(schema), "status": job["status"], "rows": job["rows"]}
            | {"error": job["error"]}
            for schema, job in sorted(first.items())
        ]
        rows = total(job["rows"] for job in syncs)
        self.concludes("Synced %s: %s", counted(len(syncs), "table"), rows_in_words(rows))
        return {**result, "rows": rows, "syncs": syncs}

    def link(self, job: Job) -> str:
        """Return the source's page."""
        return f"data-management/sources/managed-{Watched.parse(job.id).names[0]}"
