"""A whole erasure in one call: find, approve, delete, prove, erase in the warehouse, close the certificate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_provider_posthog.audit.claims import left_on_purpose
from airflow_provider_posthog.compat import TaskGroup, approval_operator
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogEraseFromSqlOperator,
    PostHogErasureGateOperator,
    PostHogFinishErasureOperator,
)
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    from airflow_provider_posthog.compat import BaseOperator, ObjectStoragePath

Approval = Literal["hitl", "params"]
Table = Mapping[str, Any]
#: Is given what the delete task returns, and makes a task.
MakeTask = Callable[[Any, Any], Any]

#: What somebody decides by, as Markdown.
_BODY = """\
{% set resolved = ti.xcom_pull(task_ids='RESOLVE') %}\
{% macro count(number, noun) %}{{ number }} {{ noun }}{{ '' if number == 1 else 's' }}{% endmacro %}\
**What is deleted cannot be brought back.**

- PostHog: project {{ resolved.project_id }} on {{ resolved.host }}\
 ([its persons]({{ resolved.host }}/project/{{ resolved.project_id }}/persons))
- Deleted there: {{ count(resolved.persons, 'person') }}, {{ count(resolved.events, 'event') }},\
 {{ count(resolved.recordings, 'recording') }}
- Their distinct ids: {{ resolved.distinct_ids }}{% if resolved.others %}, of which {{ resolved.others }}\
 {{ 'was' if resolved.others == 1 else 'were' }} not asked for, and\
 {{ 'belongs' if resolved.others == 1 else 'belong' }} to the same persons{% endif %}

- Identifiers that match no person: {{ resolved.not_found.count }}\
{% if resolved.not_found.places %} ({{ resolved.not_found.places[:10] | join(', ') }}){% endif %}

{% if resolved.future_events %}- Dated in the future, and left by PostHog: {{ count(resolved.future_events, 'event') }}
{% endif %}\
{% if resolved.personless %}- Without a profile, and so not deleted: {{ resolved.personless }}
{% endif %}\
MORE\
- Received: {{ resolved.received_at or 'not known' }}; due: {{ resolved.due_at or 'not known' }}
"""
_WAYS = ("identifiers_path", "distinct_ids", "emails", "uuids", "properties", "query")


class ErasureOptions(TypedDict, total=False):
    """The fields of :class:`Erasure`, for an editor and a type checker."""

    work_path: Required[str | ObjectStoragePath]
    identifiers_path: Any
    audit_path: str | ObjectStoragePath | None
    ticket: str | None
    approval: Approval | None
    approval_param: str
    approval_options: Mapping[str, Any]
    warehouse: Sequence[Table | MakeTask]
    max_persons: int
    remove_identifiers: bool
    resolve_options: Mapping[str, Any]
    delete_options: Mapping[str, Any]
    verify_options: Mapping[str, Any]
    posthog_conn_id: str
    project_id: int | str | None
    object_storage_conn_id: str | None
    moved_from: str | Sequence[str] | None
    group_options: Mapping[str, Any]


def erase_persons(group_id: str = "erase_persons", **options: Unpack[ErasureOptions]) -> TaskGroup:
    """Make the tasks of an erasure: ``resolve``, ``approve``, ``delete``, ``verify``, ``erase_...``, ``finish``.

    ``finish`` closes the certificate and removes the work file. If somebody cannot be erased, the warehouse is erased
    for the others, and ``finish`` fails with both numbers. If the erasure is not approved, the group fails and
    ``discard`` does the same, without anything having been deleted. If ``verify`` fails, somebody has to act and clear
    it; the work file and the open certificate stay until then.

    :param group_id: begins the tasks' ids.
    :param options: the arguments of :class:`Erasure`, such as ``work_path``, ``identifiers_path`` and ``audit_path``.
    :raises PostHogSettingsError: if nobody is named, or this Airflow has no ``ApprovalOperator``.
    """
    return Erasure(**options).group(group_id)


@dataclass(frozen=True, kw_only=True, eq=False)
class Erasure:
    """The arguments of :func:`erase_persons`.

    :param work_path: the work file, which holds personal data until the end; one for each run, such as
        ``s3://private/erasures/{{ run_id }}.jsonl``.
    :param identifiers_path: a file with whom to erase: CSV or JSON lines with ``distinct_id``, ``email``, ``uuid``. May
        be what a task returns. Other ways to name persons go into ``resolve_options``.
    :param audit_path: the folder of certificates; needs the connection's ``audit_secret``.
    :param ticket: the request's own reference, such as ``DSR-42``.
    :param approval: ``hitl``: Airflow's ``ApprovalOperator`` asks a person (Airflow 3.1 and newer); ``params``: the
        run's parameter ``approval_param`` has to be true. By default the first where Airflow has it.
    :param approval_param: the run's parameter, for ``params``.
    :param approval_options: further arguments of ``ApprovalOperator``, such as ``assigned_users``, ``notifiers`` or
        ``response_timeout``.
    :param warehouse: what to erase outside PostHog, in parallel, once PostHog is proved to have nothing left: arguments
        of :class:`~airflow_provider_posthog.operators.erasure.PostHogEraseFromSqlOperator` (``sql_conn_id``, ``table``,
        ``distinct_id_column``, ``person_id_column``), or functions that are given what ``delete`` and ``verify`` return
        (a request and its proof), and make a task of your own.
    :param max_persons: the most persons there may be; more are an error.
    :param remove_identifiers: remove the file at ``identifiers_path``, too, at the end.
    :param resolve_options: further arguments of ``PostHogResolvePersonsOperator``, such as ``must_find_all``.
    :param delete_options: of ``PostHogDeletePersonsOperator``, such as ``preview`` or ``keep_person``.
    :param verify_options: of ``PostHogPersonsErasedSensor``, such as ``deferrable``, ``timeout`` or ``poke_interval``.
    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    :param object_storage_conn_id: Airflow's connection for all paths.
    :param moved_from: earlier addresses of the same PostHog, if its address has changed while an erasure runs.
    :param group_options: of Airflow's ``TaskGroup``, such as ``default_args`` or ``tooltip``.
    """

    work_path: str | ObjectStoragePath
    identifiers_path: Any = None
    audit_path: str | ObjectStoragePath | None = None
    ticket: str | None = None
    approval: Approval | None = None
    approval_param: str = "approved"
    approval_options: Mapping[str, Any] = field(default_factory=dict)
    warehouse: Sequence[Table | MakeTask] = ()
    max_persons: int = 1000
    remove_identifiers: bool = False
    resolve_options: Mapping[str, Any] = field(default_factory=dict)
    delete_options: Mapping[str, Any] = field(default_factory=dict)
    verify_options: Mapping[str, Any] = field(default_factory=dict)
    posthog_conn_id: str = DEFAULT_CONN_ID
    project_id: int | str | None = None
    object_storage_conn_id: str | None = None
    moved_from: str | Sequence[str] | None = None
    group_options: Mapping[str, Any] = field(default_factory=dict)

    def group(self, group_id: str) -> TaskGroup:
        """Make the tasks.

        :param group_id: begins the tasks' ids.
        """
        if not any(self._resolve_arguments.get(name) for name in _WAYS):
            raise PostHogSettingsError("identifiers_path", "is empty.", "Write one, or emails=... in resolve_options.")
        with TaskGroup(group_id, **self.group_options) as group:
            resolve = self._resolve()
            approve = self._approve(resolve)
            delete, verify = self._delete(resolve.output, approve.output)
            finish, discard = self._ends(resolve.output, delete.output, verify.output)
            resolve >> approve >> [delete, discard]
            verify >> finish
            names: set[str] = set()
            for table in self.warehouse:
                verify >> self._erase(table, delete.output, verify.output, names) >> finish
        return group

    @property
    def _resolve_arguments(self) -> dict[str, Any]:
        return {"identifiers_path": self.identifiers_path, **self.resolve_options}

    @property
    def _left(self) -> list[str]:
        """Say what the deletion has to leave, and the search not to look for."""
        return left_on_purpose({"verify_by": self.resolve_options.get("verify_by"), **self.delete_options})

    @property
    def _common(self) -> dict[str, Any]:
        return {
            "posthog_conn_id": self.posthog_conn_id,
            "project_id": self.project_id,
            "object_storage_conn_id": self.object_storage_conn_id,
            "moved_from": self.moved_from,
        }

    def _resolve(self) -> BaseOperator:
        about = {
            "work_path": self.work_path,
            "audit_path": self.audit_path,
            "ticket": self.ticket,
            "max_persons": self.max_persons,
        }
        return PostHogResolvePersonsOperator(task_id="resolve", **{**self._common, **about, **self._resolve_arguments})

    def _approve(self, resolve: BaseOperator) -> BaseOperator:
        operator = approval_operator()
        resolved: Any = resolve.output
        if self.approval not in (None, "hitl", "params"):
            raise PostHogSettingsError("approval", "is not known.", "Write 'hitl' or 'params', or leave it out.")
        if self.approval == "hitl" and operator is None:
            raise PostHogSettingsError("approval", "needs Airflow 3.1 for 'hitl'.", "Write 'params', or leave it out.")
        given: dict[str, Any] = {"task_id": "approve", "retries": 0}  # a retry would only ask again, or fail again
        if self.approval == "params" or operator is None:
            return PostHogErasureGateOperator(**given, persons=resolved, param=self.approval_param, left=self._left)
        given |= {
            "subject": f"Erase persons from PostHog{f' ({self.ticket})' if self.ticket else ''}?",
            "body": _BODY.replace("RESOLVE", resolve.task_id).replace("MORE", self._more()),
            "fail_on_reject": True,  # a request that was not carried out is not a green run
        }
        return operator(**{**given, **self.approval_options})

    def _more(self) -> str:
        """Return the lines on what is deleted beside PostHog, and on what stays."""
        tables = [
            f"`{table['table']}` ({table['sql_conn_id']})" for table in self.warehouse if isinstance(table, Mapping)
        ]
        lines = [f"Their rows are deleted, too, in {', '.join(tables)}"] if tables else []
        others = len(self.warehouse) - len(tables)
        lines += [f"{others} more {'step deletes' if others == 1 else 'steps delete'} elsewhere"] if others else []
        lines += [f"Left on purpose: {item}" for item in self._left]
        return "".join(f"- {line}\n" for line in lines)

    def _delete(self, resolved: Any, approval: Any) -> tuple[BaseOperator, BaseOperator]:  # noqa: ANN401 - an XComArg, as below
        options = {**self._common, "max_persons": self.max_persons, "approval": approval, **self.delete_options}
        delete = PostHogDeletePersonsOperator(task_id="delete", persons=resolved, **options)
        # The warehouse needs the work file, and belongs into the certificate.
        keep = {"keep_work_file": True, "close_certificate": False}
        request: Any = delete.output
        verify = PostHogPersonsErasedSensor(
            task_id="verify",
            request=request,
            **{"on_survivors": "go_on", **self._common, **self.verify_options, **keep},
        )
        return delete, verify

    def _ends(self, resolved: Any, request: Any, proof: Any) -> tuple[BaseOperator, BaseOperator]:  # noqa: ANN401
        path = self._resolve_arguments["identifiers_path"]
        options = {**self._common, "also_remove": [path] if self.remove_identifiers and path else []}
        # Also after a preview, which skips the proof.
        finish = PostHogFinishErasureOperator(
            task_id="finish", request=request, proof=proof, trigger_rule="none_failed", **options
        )
        discard = PostHogDiscardErasureOperator(
            task_id="discard", request=resolved, trigger_rule="one_failed", **options
        )
        return finish, discard

    def _erase(self, table: Table | MakeTask, request: Any, proof: Any, names: set[str]) -> Any:  # noqa: ANN401
        if not isinstance(table, Mapping):
            return table(request, proof)
        name = "erase_" + re.sub(r"\W+", "_", str(table.get("table", "table"))).strip("_")
        while name in names:
            name += "_too"
        names.add(name)
        return PostHogEraseFromSqlOperator(
            **{"task_id": name, "request": request, "proof": proof, **self._common, **table}
        )
