"""Handing a person all that PostHog holds about them: the rights of access and portability (GDPR, Art. 15 and 20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.call import Call, json_page
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogSettingsError,
)
from airflow_provider_posthog.results.retention import look_if_possible
from airflow_provider_posthog.tasks.base import at_once
from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator
from airflow_provider_posthog.tasks.erasure_end import ErasureEndOperator
from airflow_provider_posthog.tasks.erasure_handover import Handover
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.storage_path import is_bucket, storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.access import EventsPart, Subject
    from airflow_provider_posthog.erasure.access_folder import AccessFolder
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.extract.copy_interval import Copy
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.tasks.erasure import ErasureArguments
    from airflow_provider_posthog.tasks.erasure_end import ErasureEndArguments

_EXAMPLE = "s3://private/access/{{ run_id }}"


class PostHogExportPersonDataOperator(PostHogErasureOperator):
    """Writes all that PostHog holds about a person into a folder: profile, ids, groups, cohorts, events, recordings.

    The folder has JSON lines, ``index.html`` to read, and ``manifest.json`` with the rows and checksum of each file. It
    appears under its name once it is complete and counted against PostHog; on a local disk only the worker's user may
    read it. All events are read in bulk, with all columns, up to the moment when the task began; the next try continues
    one that was killed. Recordings come as a list, and groups as the keys that the person's events name.

    The folder holds personal data, and nothing else gets any: remove it once it was handed over.

    :param persons: what ``PostHogResolvePersonsOperator`` returned.
    :param work_path: the work file, in its place.
    :param path: the folder, which must not be there yet, such as ``s3://private/access/{{ run_id }}``.
    :param object_storage_conn_id: Airflow's connection for ``path``; that of the work file comes with ``persons``.
    :param max_persons: the most persons there may be: a folder is handed to one.
    :param max_in_flight: how many queries run at the same time; default: the connection's.
    :param page_rows: the most rows of a query, up to 49,999.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`; with ``audit_path``
        the certificate says what was handed out, in numbers.
    :returns: ``request_id``, ``path``, ``until`` (the server's time up to which it is), ``counts`` (``profiles``,
        ``distinct_ids``, ``groups``, ``cohorts``, ``recordings``, ``events``), ``files``, ``bytes``, and
        ``not_looked_at``: what could not be read, with the reason.
    :raises PostHogIncompleteError: if PostHog counts other events than were read, or shows no profile.
    :raises PostHogSettingsError: if an argument is wrong, or there are more persons.
    """

    conn_is_for_path: ClassVar[bool] = True
    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "persons", "path")

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        persons: Mapping[str, Any] | None = None,
        max_persons: int = 10,
        max_in_flight: int | None = None,
        page_rows: int = 49_999,
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.persons = persons
        self.path = path
        self.max_persons = max_persons
        self.max_in_flight = max_in_flight
        self.page_rows = page_rows
        self._copy: Copy | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the folder."""
        from airflow_provider_posthog.tasks.bulk import need_arrow

        need_arrow(type(self).__name__)
        folder = self._folder()
        handover, work = self._subjects()
        handover.check_certificate(self.hook, context)
        request_id = handover.request_id
        manifest = folder.published()
        if manifest is not None and manifest.get("request_id") != request_id:
            raise PostHogSettingsError("path", "is another request's folder.", f"Write another, such as {_EXAMPLE!r}.")
        if manifest is None:
            manifest = self._make(folder, work)
        certificate = handover.certificate(self.hook, context)
        if certificate is not None:
            name = getattr(context.get("ti"), "task_id", "access")
            counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in manifest["counts"].items())
            certificate.exported(name, f"handed out: {counts}", manifest["until"])
        self.concludes("Wrote %s of personal data: %s", counted(len(manifest["files"]), "file"), manifest["counts"])
        return {
            "request_id": request_id,
            "path": str(self.path),
            "files": len(manifest["files"]),
            "bytes": sum(file["bytes"] for file in manifest["files"]),
            **{name: manifest[name] for name in ("until", "counts", "not_looked_at")},
        }

    def on_kill(self) -> None:
        """Stop reading: no more queries are sent."""
        if self._copy is not None:
            self._copy.stop()

    def _target(self) -> ObjectStoragePath:
        return storage_path("path", self.path, self.object_storage_conn_id, example=_EXAMPLE, folder=True)

    def _folder(self) -> AccessFolder:
        from airflow_provider_posthog.erasure.access_folder import AccessFolder

        target = self._target()
        if is_bucket(str(self.path).strip()):
            raise PostHogSettingsError("path", "is a whole bucket.", f"Write a folder in it, such as {_EXAMPLE!r}.")
        return AccessFolder(target.fs, str(target.path).rstrip("/"))

    def _subjects(self) -> tuple[Handover, WorkFile]:
        """Return whose data it is."""
        if self.persons is not None and not isinstance(self.persons, Mapping):
            raise PostHogSettingsError("persons", "is none.", "Write what PostHogResolvePersonsOperator returned.")
        if self.persons is not None:
            handover = self.handover_of(self.persons, "persons")
            work = self.work_of(handover, "persons")
        else:
            work = self.own.file()
            handover = replace(self.own, request_id=work.header().request_id)
        count = work.totals().persons
        if isinstance(self.max_persons, bool) or not isinstance(self.max_persons, int) or self.max_persons < 1:
            raise PostHogSettingsError("max_persons", "is not a number of persons.", "Write a whole number, 1 or more.")
        if count > self.max_persons:
            raise PostHogSettingsError(
                "max_persons",
                f"the work file has {count:,} persons, and the folder would be handed to one.",
                "Resolve one person, or raise the limit if all of them are the same one.",
            )
        return handover, work

    def _make(self, folder: AccessFolder, work: WorkFile) -> dict[str, Any]:
        """Write all of the folder, and give it its name."""
        from airflow_provider_posthog.erasure.access import subject_of
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.work_file import digest_of

        if not folder.is_whole:
            settings = self.hook.settings()
            asked = digest_of([work.header().request_id, settings.base_url, settings.project_id])
            server = detect(self.client)
            subject = subject_of(self.client, work.persons(), server)
            state = folder.begin(asked, {"until": server.now.isoformat()})
            until = datetime.fromisoformat(state["until"])
            try:
                self._fill(folder, work, subject, until)
            except PostHogIncompleteError:
                folder.discard()  # what was read is not all: the next try begins anew
                raise
        return folder.publish()

    def _fill(self, folder: AccessFolder, work: WorkFile, subject: Subject, until: datetime) -> None:
        from airflow_provider_posthog.erasure import access, access_page

        names, missing = self._cohort_names()
        parts = {
            "profiles": access.profile(self.client, subject, work.totals().profiles),
            "distinct_ids": access.distinct_ids(subject),
            "groups": access.groups(self.client, subject),
            "cohorts": access.cohorts(self.client, subject, names),
            "recordings": access.recordings(self.client, subject),
        }
        counts = {name: folder.lines(name, rows) for name, rows in parts.items()}
        retention = self.client.run(look_if_possible(self.hook.settings().project_id))
        counts["events"] = self._events(folder, subject, until)
        settings, seen = self.hook.settings(), access_page.Events()
        hidden = {"old events": retention.not_looked_at} if retention.not_looked_at else {}
        facts = {
            "request_id": work.header().request_id,
            "host": settings.base_url,
            "project_id": settings.project_id,
            "until": until.isoformat(),
            "counts": counts,
            "not_looked_at": {**missing, **hidden},
            "retention": retention.as_json(),
        }
        for name in folder.event_files():
            for event in folder.read(name):
                seen.add(event)
        folder.page(access_page.page(facts, parts, seen))
        folder.finish(facts)

    def _events(self, folder: AccessFolder, subject: Subject, until: datetime) -> int:
        from airflow_provider_posthog.erasure.access import event_parts

        return sum(
            self._part(folder, number, part, until) for number, part in enumerate(event_parts(subject, until), 1)
        )

    def _part(self, folder: AccessFolder, number: int, part: EventsPart, until: datetime) -> int:
        """Read some of the events, those that are dated later than now by themselves, and compare the counts."""
        from airflow_provider_posthog.erasure.access import EVENT_COLUMNS, check_events, count_events
        from airflow_provider_posthog.erasure.queries import utc
        from airflow_provider_posthog.extract import sources
        from airflow_provider_posthog.storage.manifest import Interval
        from airflow_provider_posthog.tasks.bulk import EPOCH

        source = sources.events(EVENT_COLUMNS, time_column="timestamp", where=part.where, values=dict(part.values))
        name = f"events_{number:03}"
        past = self._read(folder, replace(source, name=name), Interval(name, EPOCH, until))
        check_events(count_events(self.client, part, " AND timestamp < toDateTime({end})", end=utc(until)), past)
        later = " AND timestamp >= toDateTime({end})"
        counted = count_events(self.client, part, later, end=utc(until))
        if not counted[0]:
            return int(past["rows"])
        ahead = replace(
            source,
            name=f"{name}_dated_later",
            time=None,
            cells=False,
            where=part.where + later,
            values={**part.values, "end": utc(until)},
        )
        future = self._read(folder, ahead, Interval.snapshot(ahead.name, until))
        check_events(counted, future)
        return int(past["rows"] + future["rows"])

    def _read(self, folder: AccessFolder, source: Source, interval: Any) -> dict[str, Any]:  # noqa: ANN401 - an Interval
        import time

        from airflow_provider_posthog.erasure.access_folder import EVENTS
        from airflow_provider_posthog.erasure.redaction import redacted
        from airflow_provider_posthog.erasure.work_file import digest_of
        from airflow_provider_posthog.extract.copy_interval import Copy, Reading
        from airflow_provider_posthog.extract.layout import Layout
        from airflow_provider_posthog.storage import manifest as manifests
        from airflow_provider_posthog.storage.staging import Owner, Staging

        target, root = self._target(), f"{folder.work}/{EVENTS}"
        settings = self.hook.settings()
        there = manifests.read(target.fs, root, interval)
        if there is not None:  # an earlier try has read them
            return there
        owner = Owner("access", digest_of([source.where, dict(source.values)]))
        staging = Staging.open(target.fs, root, interval, owner, time.time)
        reading = Reading(settings, source, at_once(self.max_in_flight, settings), self.page_rows, settle=timedelta(0))
        layout = Layout(format="jsonl", compression=None, own_json=source.own_json)
        self._copy = Copy(reading, staging, layout, {})
        with redacted():
            return self._copy.run()

    def _cohort_names(self) -> tuple[dict[int, str], dict[str, str]]:
        """Return the names of cohorts, or why they are not known."""
        call: Call[dict[str, Any]] = Call(
            "cohorts.list", "GET", "cohorts/", json_page, query={"limit": 100}, scopes=("cohort:read",), paging="offset"
        )
        try:
            rows = list(self.hook.pages(call, 100_000))
        except (PostHogPermissionError, PostHogNotFoundError) as error:
            scope = getattr(error, "scope", None)
            return {}, {"names of cohorts": f"missing scope {scope}" if scope else "PostHog refuses them to this key"}
        return {row["id"]: str(row.get("name")) for row in rows if isinstance(row.get("id"), int)}, {}


class PostHogFinishAccessOperator(ErasureEndOperator):
    """Ends a request for access: closes its certificate as ``EXPORTED``, and removes the work file.

    The folder stays, as only you know when it was handed over. If the same request also erases the person, leave this
    task out: the end of the erasure closes the certificate.

    :param request: what ``PostHogResolvePersonsOperator`` returned.
    :param access: what ``PostHogExportPersonDataOperator`` returned.
    :param also_remove: other files that hold identifiers, removed with the work file.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``state`` (``EXPORTED``), ``audit_path``, ``ledger_head``.
    :raises PostHogErasureError: if a deletion has begun: then only its proof can end the request.
    :raises PostHogSettingsError: if nothing of this request was handed out; nothing is closed or removed then.
    """

    template_fields: Sequence[str] = (*ErasureEndOperator.template_fields, "access")

    def __init__(
        self,
        *,
        access: Mapping[str, Any],
        **kwargs: Unpack[ErasureEndArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.access = access

    def execute(self, context: Context) -> dict[str, Any]:
        """End it."""
        handover = self.handover()
        access = self.access if isinstance(self.access, Mapping) else {}
        if access.get("request_id") != handover.request_id or not access.get("counts"):
            raise PostHogSettingsError(
                "access", "hands out nothing of this request.", "Write what PostHogExportPersonDataOperator returned."
            )
        work = handover.work("request", may_be_gone=True)
        self.refuse_what_has_begun(handover, work)
        certificate = handover.certificate(self.hook, context)
        if certificate is not None:
            certificate.close("EXPORTED", {}, access.get("until"))
        self.remove(handover, work)
        return self.ended(handover, certificate, "EXPORTED")
