"""Looking again, weeks after an erasure was proved, whether somebody has come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.tasks.erasure import PeopleOperator, PostHogErasureOperator, length_of
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.judge import Request
    from airflow_provider_posthog.erasure.sealed import Sealed

_EXAMPLE = "s3://private/sealed/"
_FLAGS = ("delete_events", "delete_recordings", "keep_person")
_TIMES = ("requested_at", "accepted_at")


class PostHogSealErasureOperator(PostHogErasureOperator):
    """Keeps what is needed to look at an erasure again, encrypted with a key from the connection's ``audit_salt``.

    Runs after the proof, and before the work file is removed. ``PostHogLookAgainOperator`` takes it from there.

    :param request: what ``PostHogDeletePersonsOperator`` returned.
    :param sealed_path: the folder for it, in object storage.
    :param look_again_after: how long after now to look again; seconds or a timedelta.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``sealed_path``, ``persons``, ``due_at``.
    :raises PostHogSettingsError: if an argument is wrong, or the connection has no salt.
    """

    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "request", "sealed_path")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        sealed_path: str | ObjectStoragePath,
        look_again_after: float | timedelta = timedelta(days=30),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.sealed_path = sealed_path
        self.look_again_after = look_again_after

    def execute(self, context: Context) -> dict[str, Any]:
        """Seal it.

        :param context: the task's context; may be empty outside the task runner.
        """
        from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
        from airflow_provider_posthog.erasure.sealed import END, Sealed

        if not isinstance(self.request, Mapping) or not self.request.get("accepted_at"):
            raise PostHogSettingsError("request", "is none.", "Write what PostHogDeletePersonsOperator returned.")
        after = length_of("look_again_after", self.look_again_after)
        salt = self.hook.audit_salt()
        Pseudonyms(salt)  # refuses one that can be guessed
        folder = storage_path(
            "sealed_path", self.sealed_path, self.object_storage_conn_id, example=_EXAMPLE, folder=True
        )
        handover = self.handed_over(self.request, "request")
        work, request_id = self.work_of(handover, "request"), handover.request_id
        settings = self.hook.settings()
        kept = {name: self.request.get(name) for name in (*_FLAGS, *_TIMES, "generation")}
        where = {"request_id": request_id, "host": settings.base_url, "project_id": settings.project_id}
        sealed = Sealed(folder.fs, f"{str(folder.path).rstrip('/')}/{request_id}{END}", salt)
        due = datetime.now(timezone.utc) + after
        count = sealed.write({**kept, **where}, work.persons(), due)
        certificate = handover.certificate(self.hook, context)
        if certificate is not None:
            name = getattr(context.get("ti"), "task_id", "seal")
            certificate.noted(name, f"sealed what is needed to look again, on {due:%Y-%m-%d} or later")
        self.log.info("Sealed erasure %s; to be looked at again on %s or later", request_id, f"{due:%Y-%m-%d}")
        return {
            "request_id": request_id,
            "sealed_path": str(self.sealed_path),
            "persons": count,
            "due_at": due.isoformat(),
        }


class PostHogLookAgainOperator(PeopleOperator):
    """Looks again at every sealed erasure whose time has come, and fails if somebody of them can be read again.

    For a DAG of its own, once a day. What is still clean is unsealed and removed; what is not stays, so that the task
    can be cleared, until ``keep_for`` is over: nothing with identifiers is kept for ever.

    :param sealed_path: the folder of ``PostHogSealErasureOperator``.
    :param object_storage_conn_id: Airflow's connection for it.
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
        keep_for: float | timedelta = timedelta(days=30),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.sealed_path = sealed_path
        self.object_storage_conn_id = object_storage_conn_id
        self.keep_for = keep_for

    def execute(self, context: Context) -> dict[str, Any]:
        """Look.

        :param context: the task's context; may be empty outside the task runner.
        """
        keep_for = length_of("keep_for", self.keep_for)
        waiting = looked = expired = 0
        states: Counter[str] = Counter()
        left: list[str] = []
        now = datetime.now(timezone.utc)
        for sealed in self._all():
            request_id, due = sealed.head()
            if due > now:
                waiting += 1
                continue
            found = self._look(sealed)
            looked += 1
            states.update(found)
            if set(found) <= {"VERIFIED"}:
                self.log.info("Erasure %s: still nothing can be read of %d persons", request_id, found["VERIFIED"])
                sealed.remove()
                continue
            left.append(f"{request_id} ({', '.join(f'{state} {n}' for state, n in sorted(found.items()))})")
            if due + keep_for <= now:
                self.log.warning("Erasure %s is not clean, and no longer kept: its sealed file is removed", request_id)
                sealed.remove()
                expired += 1
        if left:
            raise PostHogErasureError(
                f"Somebody who was erased can be read again: {'; '.join(left)}. Stop what sends their events, and "
                "start a new request.",
                states=dict(states),
            )
        return {"looked_at": looked, "waiting": waiting, "states": dict(states), "expired": expired}

    def _all(self) -> Iterator[Sealed]:
        from airflow_provider_posthog.erasure.sealed import END, Sealed

        salt = self.hook.audit_salt()
        folder = storage_path(
            "sealed_path", self.sealed_path, self.object_storage_conn_id, example=_EXAMPLE, folder=True
        )
        folder.fs.invalidate_cache()
        paths = folder.fs.find(folder.path, maxdepth=1) if folder.fs.exists(folder.path) else []
        for path in sorted(paths):
            if path.endswith(END) and not path.rpartition("/")[2].startswith("."):
                yield Sealed(folder.fs, path, salt)

    def _look(self, sealed: Sealed) -> Counter[str]:
        from airflow_provider_posthog.erasure.verify import verify

        request, settings = sealed.request(), self.hook.settings()
        if (request.get("host"), request.get("project_id")) != (settings.base_url, settings.project_id):
            raise PostHogSettingsError(
                "posthog_conn_id",
                f"leads to another PostHog than erasure {request['request_id']} was about.",
                "Name the connection, and the project_id, of that time: elsewhere nobody would be found.",
            )
        for _ in sealed.persons():
            pass  # all of it is whole, before it is believed
        report = verify(self.client, sealed.persons(), _asked(request))
        return Counter({str(state): n for state, n in report.states.items() if n})


def _asked(request: Mapping[str, Any]) -> Request:
    from airflow_provider_posthog.erasure.delete import Wish
    from airflow_provider_posthog.erasure.judge import Request

    asked, accepted = (moment(request.get(name)) for name in _TIMES)
    assert isinstance(asked, datetime)  # noqa: S101 - it was written by this package, and is whole
    assert isinstance(accepted, datetime)  # noqa: S101
    wish = Wish(*(bool(request.get(name)) for name in _FLAGS))
    # An answer's time is in whole seconds, rounded down.
    return Request(wish, str(request["generation"]), asked, accepted + timedelta(seconds=1), quiet_period=timedelta(0))
