"""Every branch on an Airflow version: 2.11 on one side, 3.0 to 3.4 on the other. No other module has one.

Branches ask what Airflow offers, not for its number.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from airflow.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import (
        Asset,
        BaseHook,
        BaseNotifier,
        BaseOperator,
        BaseOperatorLink,
        Connection,
        Context,
        ObjectStoragePath,
        RetryDecision,
        RetryPolicy,
        TaskGroup,
    )
    from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.sdk.log import mask_secret
    from airflow.triggers.base import BaseEventTrigger
else:
    try:
        from airflow.sdk import Asset, BaseOperator, BaseOperatorLink, Connection, Context, ObjectStoragePath, TaskGroup
        from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:  # 2.11
        from airflow.datasets import Dataset as Asset
        from airflow.io.path import ObjectStoragePath
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.models.connection import Connection
        from airflow.models.xcom import XCom
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
        from airflow.utils.context import Context
        from airflow.utils.task_group import TaskGroup
    try:
        from airflow.sdk import BaseHook
    except ImportError:  # 2.11, 3.0
        from airflow.hooks.base import BaseHook
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    except ImportError:  # 2.11, 3.0, 3.1
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    try:
        from airflow.sdk import BaseNotifier
    except ImportError:  # 2.11
        from airflow.notifications.basenotifier import BaseNotifier
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:
        try:
            from airflow.sdk.execution_time.secrets_masker import mask_secret  # 3.0
        except ImportError:  # 2.11
            from airflow.utils.log.secrets_masker import mask_secret

    def __getattr__(name: str) -> object:
        """Load what few ask for when it is asked for, so that only who asks waits, or hears that Airflow has it not."""
        if name in ("RetryDecision", "RetryPolicy"):
            return _retry_policies()[name]
        if name != "BaseEventTrigger":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from airflow.triggers.base import BaseEventTrigger
        except ImportError:  # 2.11
            raise ImportError("Watchers of assets need Airflow 3. On Airflow 2, begin the DAG with a sensor.") from None
        return BaseEventTrigger


__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Asset",
    "BaseEventTrigger",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "Connection",
    "Context",
    "ObjectStoragePath",
    "PokeReturnValue",
    "RetryDecision",
    "RetryPolicy",
    "StateStore",
    "TaskGroup",
    "XCom",
    "approval_operator",
    "asset_stores",
    "before_execution_timeout",
    "begins_anew",
    "default_deferrable",
    "deployment",
    "fail_at_once",
    "first_poke_of",
    "get_connection_async",
    "has_retry_policies",
    "is_of_earlier_try",
    "iteration_of",
    "mask_secret",
    "openlineage_listens",
    "reschedules_of",
    "state_store",
]

#: Airflow 2.11 itself fails a deferred task at its execution_timeout, without a word to us: be done before.
_BEFORE_EXECUTION_TIMEOUT = 5.0


def approval_operator() -> type[BaseOperator] | None:
    """Return Airflow's operator that asks a person (3.1 and newer), or ``None``."""
    try:
        from airflow.providers.standard.operators.hitl import ApprovalOperator
    except (ImportError, AirflowException):  # before 3.1 the module itself refuses to be imported
        return None
    approval: type[BaseOperator] = ApprovalOperator
    return approval


class AssetStore(Protocol):
    """What Airflow 3.3 keeps for an asset."""

    async def aget(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """Return the value under ``key``, or ``None``."""

    async def aset(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Keep ``value``, which must be JSON and not ``None``."""


def asset_stores(trigger: object) -> list[AssetStore]:
    """Return the state stores of the assets that an event trigger watches for (Airflow 3.3 and newer), or none.

    Several assets may share a trigger: all whose triggers have the same arguments. Airflow's accessors then refuse to
    choose, and cannot be listed but from within.

    :param trigger: the trigger, as the triggerer runs it.
    """
    own = getattr(trigger, "asset_state_store", None)
    if own is None:
        return []
    by_name, by_uri = (getattr(own, name, None) for name in ("_by_name", "_by_uri"))
    stores = [store for group in (by_name, by_uri) if isinstance(group, Mapping) for store in group.values()]
    return stores or [own]


def before_execution_timeout(limit: timedelta) -> float:
    """Return the seconds after which a deferred task ends its waiting itself, shortly before Airflow 2.11 would.

    :param limit: the task's ``execution_timeout``.
    """
    return limit.total_seconds() - min(_BEFORE_EXECUTION_TIMEOUT, 0.1 * limit.total_seconds())


def default_deferrable() -> bool:
    """Return ``[operators] default_deferrable``, as Airflow's own operators do."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def deployment() -> str:
    """Return what tells this Airflow from another one that uses the same project: a setting, or its base URL.

    ``AIRFLOW__POSTHOG__DEPLOYMENT``, else ``[api] base_url`` (Airflow 2: ``[webserver] base_url``).
    """
    for section, name in (("posthog", "deployment"), ("api", "base_url"), ("webserver", "base_url")):
        configured = str(conf.get(section, name, fallback="") or "").strip()
        if configured:
            return configured.rstrip("/")
    return ""


async def get_connection_async(conn_id: str) -> Connection:
    """Get a connection without blocking the triggerer's event loop.

    Airflow's own asynchronous way deadlocks when it masks a connection's extra, until 3.3.2 (apache/airflow#72895,
    #65286), which brought ``Connection.aextra_dejson``. Before that the blocking one runs in a thread.

    :param conn_id: the connection's id.
    """
    if hasattr(Connection, "aextra_dejson"):
        with suppress(AirflowException):  # a trigger of `airflow dags test` (3.3) finds none that is in the database
            return await BaseHook.aget_connection(conn_id)

    from asgiref.sync import sync_to_async

    return await sync_to_async(_get_connection_with_extra)(conn_id)


def _get_connection_with_extra(conn_id: str) -> Connection:
    connection = BaseHook.get_connection(conn_id)
    _ = connection.extra_dejson  # reading it masks secrets, which must not happen on the event loop
    return connection


def has_retry_policies() -> bool:
    """Return whether Airflow asks a task's policy what to do after a failure (3.3 and newer)."""
    return _retry_policies()["RetryDecision"] is not None


def _retry_policies() -> dict[str, Any]:
    try:
        from airflow.sdk import RetryDecision, RetryPolicy
    except ImportError:  # before 3.3
        return {"RetryDecision": None, "RetryPolicy": object}
    return {"RetryDecision": RetryDecision, "RetryPolicy": RetryPolicy}


@functools.cache
def _at_once(kind: Any) -> Any:  # noqa: ANN401 - a class of errors
    """Make a class of errors, of the same name, after which Airflow makes no other try."""
    return type(kind.__name__, (kind, AirflowFailException), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def fail_at_once(error: BaseException) -> None:
    """Let an error that leaves a task end it without another try; it stays what it is.

    :param error: the error.
    """
    kind: Any = type(error)
    if not issubclass(kind, AirflowFailException):
        error.__class__ = _at_once(kind)


def is_of_earlier_try(waited: int, context: Mapping[str, Any]) -> bool:
    """Tell whether a trigger's event was meant for an earlier try than the one that gets it.

    Airflow 3.0 resumes the retry of a task that deferred with the last event of the try before, which would fail each
    retry at once: only since 3.1 its execution API clears ``next_method`` on a retry. (It does so with an event of
    Airflow's own, too, for a triggerer that was gone; such a retry never reaches us.)

    :param waited: the try for which the trigger was made; 0 if that is not known.
    """
    now = getattr(context.get("ti"), "try_number", None) or 0
    return 0 < waited < now


def iteration_of(context: Mapping[str, Any]) -> list[str]:
    """Return what tells a task instance from others with its dag, run, task and map index; empty before Airflow 3.4.

    The iterations of a loop (3.4) share all four. Each is at a position of its own, and belongs to a region, which is
    another one when a user clears the loop. ``ti.id`` would not do: it changes from try to try.
    """
    loop = context.get("loop")
    index = loop.get("index") if isinstance(loop, Mapping) else getattr(loop, "index", None)
    region = getattr(context.get("ti"), "region_id", None)
    parts = [f"loop {index}"] if isinstance(index, (int, str)) else []
    # What belongs to no loop and is not mapped has a region, too: none, written as zeros.
    if isinstance(region, (UUID, str, int)) and str(region) not in ("", "0", str(UUID(int=0))):
        parts.append(f"region {region}")
    return parts


def reschedules_of(context: Mapping[str, Any]) -> int:
    """Return how often the task was rescheduled: ``execute()`` runs again then, and the try number stays what it was.

    On Airflow 3.4 a retry policy may reschedule any task; before, only sensors are, and tasks whose DAG was not there.
    """
    count = context.get("task_reschedule_count")
    count = getattr(context.get("ti"), "task_reschedule_count", None) if count is None else count
    return count if isinstance(count, int) and count > 0 else 0


def first_poke_of(context: Mapping[str, Any]) -> datetime | None:
    """Return when the first poke of a sensor began that gives its slot back between two; ``None`` in the first one.

    :param context: the task's context.
    """
    ti: Any = context.get("ti")
    if getattr(getattr(ti, "task", None), "mode", None) != "reschedule":
        return None
    with suppress(Exception):  # a line of the log is worth no failure
        if hasattr(ti, "get_first_reschedule_date"):
            start = ti.get_first_reschedule_date(context)
        else:  # 2.11 asks its database, as its own sensors do
            sensors = importlib.import_module("airflow.sensors.base")
            start = sensors._orig_start_date(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
        return start if isinstance(start, datetime) else None
    return None


def begins_anew(ti: object) -> bool:
    """Tell whether this is a worker's process in which a task began from its start, so that it has no XCom before it.

    Airflow 3 asks a task's links in the worker, too, at its end, and logs an error for an XCom that is not there.

    :param ti: what Airflow asks a link with: in a worker the task instance itself, elsewhere its key.
    """
    run_context = getattr(ti, "_ti_context_from_server", None)
    return (
        run_context is not None
        and not getattr(run_context, "next_method", None)
        and not reschedules_of({"ti": run_context})
    )


def openlineage_listens() -> bool:
    """Return whether Airflow's OpenLineage provider is installed and sends events anywhere."""
    try:
        from airflow.providers.openlineage.conf import is_disabled  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return False
    return not is_disabled()


class StateStore(Protocol):
    """What Airflow 3.3 keeps for a task instance across its tries."""

    def get(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """Return the value under ``key``, or ``None``."""

    def set(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Keep ``value``, which must be JSON and not ``None``."""

    def delete(self, key: str) -> None:
        """Forget ``key``."""


def state_store(context: Mapping[str, Any]) -> StateStore | None:
    """Return the task's state store (Airflow 3.3 and newer), or ``None``."""
    store: StateStore | None = context.get("task_state_store")
    return store
