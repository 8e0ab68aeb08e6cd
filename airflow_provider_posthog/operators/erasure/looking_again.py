"""Checking again, weeks after an erasure was proved, whether somebody has come back."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.tasks.erasure import PeopleOperator, PostHogErasureOperator
from airflow_provider_posthog.tasks.lengths import length_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.judge import Request
    from airflow_provider_posthog.erasure.sealed import Sealed
    from airflow_provider_posthog.tasks.arguments import PostHogArguments
    from airflow_provider_posthog.tasks.erasure import ErasureArguments

_EXAMPLE = "s3://private/sealed/"
_FLAGS = ("delete_events", "delete_recordings", "keep_person")
_TIMES = ("requested_at", "accepted_at")


class PostHogSealErasureOperator(PostHogErasureOperator):
    """Keeps what is needed to look at an erasure again, encrypted with a key from the connection's ``audit_secret``.

    Runs after the proof, and before the work file is removed. ``PostHogLookAgainOperator`` takes it from there.

    :param request: what ``PostHogDeletePersonsOperator`` returned.
    :param proof: what ``PostHogPersonsErasedSensor`` returned: everybody who is ``VERIFIED`` is sealed, even if the
        proof is ``PARTIAL``. Whoever is not can still be read, and a later look would only say so.
    :param sealed_path: the folder for it, in object storage.
    :param object_storage_conn_id: Airflow's connection for it; that of the work file comes with ``request``.
    :param look_again_after: how long after now to look again; seconds or a timedelta.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``sealed_path``, ``persons`` (how many are sealed), ``left_out`` (how many are not
        ``VERIFIED``), ``due_at``.
    :raises PostHogSettingsError: if an argument is wrong, the connection has no ``audit_secret``, or the proof is of
        another request or not the last one; nothing is sealed then.
    """

    conn_is_for_path: ClassVar[bool] = True
    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "request", "proof", "sealed_path")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        proof: Mapping[str, Any],
        sealed_path: str | ObjectStoragePath,
        look_again_after: float | timedelta = timedelta(days=30),
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.proof = proof
        self.sealed_path = sealed_path
        self.look_again_after = look_again_after

    def execute(self, context: Context) -> dict[str, Any]:
        """Seal it."""
        from airflow_provider_posthog.erasure.sealed import END, Sealed

        if not isinstance(self.request, Mapping) or not self.request.get("accepted_at"):
            raise PostHogSettingsError("request", "is none.", "Write what PostHogDeletePersonsOperator returned.")
        after = length_of("look_again_after", self.look_again_after)
        salt = self.hook.audit_secret()
        Pseudonyms(salt)  # refuses one that can be guessed
        folder = storage_path(
            "sealed_path", self.sealed_path, self.object_storage_conn_id, example=_EXAMPLE, folder=True
        )
        handover = self.handover_of(self.request, "request")
        work, request_id = self.work_of(handover, "request"), handover.request_id
        left_out = self.survivors(work, self.request, self.proof)
        settings = self.hook.settings()
        kept = {name: self.request.get(name) for name in (*_FLAGS, *_TIMES, "generation")}
        where = {"request_id": request_id, "host": settings.base_url, "project_id": settings.project_id}
        sealed = Sealed(folder.fs, f"{str(folder.path).rstrip('/')}/{request_id}{END}", salt)
        due = datetime.now(timezone.utc) + after
        certificate = handover.certificate(self.hook, context)
        proved = (person for person in work.persons() if uuid.UUID(person.uuid).int not in left_out)
        count = sealed.write({**kept, **where}, proved, due)
        if certificate is not None:
            name = getattr(context.get("ti"), "task_id", "seal")
            text = f"sealed what is needed to look again at {count:,} persons, on {due:%Y-%m-%d} or later"
            certificate.noted(name, text)
        self.concludes("Sealed erasure %s; to be looked at again on %s or later", request_id, f"{due:%Y-%m-%d}")
        return {
            "request_id": request_id,
            "sealed_path": str(self.sealed_path),
            "persons": count,
            "left_out": len(left_out),
            "due_at": due.isoformat(),
        }


class PostHogLookAgainOperator(PeopleOperator):
    """Checks every sealed erasure whose time has come, and fails if somebody of it can be read again.

    For a DAG of its own, once a day. An erasure that is clean in two looks is removed (a lagging replica may show
    nothing for a while). Any other stays, so that you can clear the task, until ``keep_for`` is over: nothing with
    identifiers is kept for ever.

    :param sealed_path: the folder of ``PostHogSealErasureOperator``.
    :param object_storage_conn_id: Airflow's connection for it.
    :param moved_from: earlier addresses of the same PostHog, such as ``https://posthog.example``, if its address has
        changed since an erasure was sealed: another one is refused before anything is asked.
    :param poll_interval: how long between the two looks; seconds or a timedelta.
    :param keep_for: how long after its time a sealed erasure is kept at the most; seconds or a timedelta.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PeopleOperator`.
    :returns: ``looked_at`` (how many erasures), ``waiting`` (how many are not due), ``states`` (persons by state), and
        ``expired`` (how many were removed after ``keep_for``, without being clean).
    :raises PostHogErasureError: with the requests, and the states of their persons.
    :raises PostHogSettingsError: if a file is damaged, or is another PostHog's or another salt's.
    """

    template_fields: Sequence[str] = (*PeopleOperator.template_fields, "sealed_path", "object_storage_conn_id")

    def __init__(
        self,
        *,
        sealed_path: str | ObjectStoragePath,
        object_storage_conn_id: str | None = None,
        moved_from: str | Sequence[str] | None = None,
        poll_interval: float | timedelta = 60.0,
        keep_for: float | timedelta = timedelta(days=30),
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sealed_path = sealed_path
        self.object_storage_conn_id = object_storage_conn_id
        self.moved_from = moved_from
        self.poll_interval = poll_interval
        self.keep_for = keep_for

    def execute(self, context: Context) -> dict[str, Any]:
        """Look."""
        keep_for, interval = length_of("keep_for", self.keep_for), length_of("poll_interval", self.poll_interval)
        now = datetime.now(timezone.utc)
        every = [*self._all()]
        due = [sealed for sealed in every if sealed.head()[1] <= now]
        for erasure in due:
            self._refuse_another(erasure)
        checked = {sealed.path: self._checked(sealed) for sealed in due}
        clean = [sealed for sealed in due if _is_clean(checked[sealed.path])]
        if clean:
            time.sleep(interval.total_seconds())
            checked.update({sealed.path: self._checked(sealed) for sealed in clean})
        expired, left, states = 0, list[str](), Counter[str]()
        for sealed in due:
            states.update(checked[sealed.path])
            if not _is_clean(checked[sealed.path]):
                left.append(_as_text(sealed, checked[sealed.path]))
            if self._removed(sealed, checked[sealed.path], keep_for, now):
                expired += not _is_clean(checked[sealed.path])
        if left:
            raise PostHogErasureError(
                f"Somebody who was erased can be read again: {'; '.join(left)}. Stop what sends their events, and "
                "start a new request.",
                states=dict(states),
            )
        waiting = len(every) - len(due)
        self.concludes("Looked again at %s; not due: %d", counted(len(due), "erasure"), waiting)
        return {"looked_at": len(due), "waiting": waiting, "states": dict(states), "expired": expired}

    def _refuse_another(self, sealed: Sealed) -> None:
        """Refuse what is damaged, or is another PostHog's, where nobody would be found."""
        from airflow_provider_posthog.erasure.project import Project

        Project.of(self.hook.settings(), self.moved_from).check(sealed.request(), "sealed_path")
        for _ in sealed.persons():
            pass  # all of it is whole, before it is believed

    def _removed(self, sealed: Sealed, states: Mapping[str, int], keep_for: timedelta, now: datetime) -> bool:
        """Remove what nobody needs any more."""
        request_id, due = sealed.head()
        if _is_clean(states):
            self.log.info(
                "Erasure %s: still nothing can be read of %s", request_id, counted(states["VERIFIED"], "person")
            )
        elif due + keep_for <= now:
            self.log.warning("Erasure %s is not clean, and no longer kept: its sealed file is removed", request_id)
        else:
            return False
        sealed.remove()
        return True

    def _all(self) -> Iterator[Sealed]:
        from airflow_provider_posthog.erasure.sealed import END, Sealed

        salt = self.hook.audit_secret()
        folder = storage_path(
            "sealed_path", self.sealed_path, self.object_storage_conn_id, example=_EXAMPLE, folder=True
        )
        folder.fs.invalidate_cache()
        paths = folder.fs.find(folder.path, maxdepth=1) if folder.fs.exists(folder.path) else []
        for path in sorted(paths):
            if path.endswith(END) and not path.rpartition("/")[2].startswith("."):
                yield Sealed(folder.fs, path, salt)

    def _checked(self, sealed: Sealed) -> Counter[str]:
        """Look at the persons of one erasure, once."""
        from airflow_provider_posthog.erasure.verify import verify

        report = verify(self.client, sealed.persons(), _asked(sealed.request()))
        return Counter({str(state): n for state, n in report.states.items() if n})


def _is_clean(states: Mapping[str, int]) -> bool:
    return set(states) <= {"VERIFIED"}


def _as_text(sealed: Sealed, states: Mapping[str, int]) -> str:
    return f"{sealed.head()[0]} ({', '.join(f'{state} {n}' for state, n in sorted(states.items()))})"


def _asked(request: Mapping[str, Any]) -> Request:
    from airflow_provider_posthog.erasure.delete import DeleteOptions
    from airflow_provider_posthog.erasure.judge import Request

    asked, accepted = (moment(request.get(name)) for name in _TIMES)
    assert isinstance(asked, datetime)  # noqa: S101 - it was written by this package, and is whole
    assert isinstance(accepted, datetime)  # noqa: S101
    options = DeleteOptions(*(bool(request.get(name)) for name in _FLAGS))
    # An answer's time is in whole seconds, rounded down.
    return Request(
        options, str(request["generation"]), asked, accepted + timedelta(seconds=1), quiet_period=timedelta(0)
    )
