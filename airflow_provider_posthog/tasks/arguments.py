"""What Airflow's own base classes take, so that an editor and a type checker see every argument of a task."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    from typing_extensions import Required

    from airflow_provider_posthog.capture.events import Properties
    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.results.files import ResultFormat
    from airflow_provider_posthog.tasks.refresh_results import OnTruncation
else:

    class TypedDict:
        """Stands for that of ``typing``, whose classes take time to make. Only editors and type checkers read them."""

        def __init_subclass__(cls, *, total: bool = True) -> None:
            """Take what that of ``typing`` takes."""


class PartOfArguments(TypedDict, total=False):
    """What a part of a task takes: the base of all that say so elsewhere."""


class TaskArguments(TypedDict, total=False):
    """The arguments of Airflow's ``BaseOperator``, those of all versions."""

    task_id: Required[str]
    allow_nested_operators: bool
    dag: Any
    default_args: dict[str, Any] | None
    depends_on_past: bool
    do_xcom_push: bool
    doc: str | None
    doc_json: str | None
    doc_md: str | None
    doc_rst: str | None
    doc_yaml: str | None
    email: Any
    email_on_failure: bool
    email_on_retry: bool
    end_date: datetime | None
    execution_timeout: timedelta | None
    executor: str | None
    executor_config: dict[str, Any] | None
    ignore_first_depends_on_past: bool
    inlets: Any
    logger_name: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    max_retry_delay: timedelta | float | None
    multiple_outputs: bool
    on_execute_callback: Any
    on_failure_callback: Any
    on_retry_callback: Any
    on_skipped_callback: Any
    on_success_callback: Any
    outlets: Any
    owner: str
    params: Any
    pool: str | None
    pool_slots: int
    post_execute: Any
    pre_execute: Any
    priority_weight: int
    queue: str
    render_template_as_native_obj: bool | None
    resources: dict[str, Any] | None
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    retry_policy: Any
    run_as_user: str | None
    sla: timedelta | None
    start_date: datetime | None
    task_display_name: str | None
    task_group: Any
    trigger_rule: str
    wait_for_downstream: bool
    wait_for_past_depends_before_skipping: bool
    weight_rule: Any


class BaseSensorArguments(TaskArguments, total=False):
    """The arguments of Airflow's ``BaseSensorOperator`` that no sensor here has a default of its own for."""

    exponential_backoff: bool
    max_wait: timedelta | float | None
    never_fail: bool
    silent_fail: bool
    soft_fail: bool


class UnhurriedSensorArguments(BaseSensorArguments, total=False):
    """The arguments of Airflow's ``BaseSensorOperator`` but ``poke_interval``."""

    mode: str
    timeout: timedelta | float | None


class SensorTaskArguments(UnhurriedSensorArguments, total=False):
    """The arguments of Airflow's ``BaseSensorOperator``."""

    poke_interval: timedelta | float


class PostHogArguments(TaskArguments, total=False):
    """The arguments of :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`."""

    posthog_conn_id: str
    project_id: int | str | None


class PollingArguments(TypedDict, total=False):
    """What every sensor here takes beside the arguments of Airflow's own, and ``failure_grace``."""

    posthog_conn_id: str
    project_id: int | str | None
    deferrable: bool | None
    max_poll_failures: int


class WaitingArguments(PollingArguments, total=False):
    """What every sensor here takes beside the arguments of Airflow's own."""

    failure_grace: float | timedelta


class OwnPaceSensorArguments(WaitingArguments, BaseSensorArguments, total=False):
    """The arguments of a sensor that has defaults of its own for ``poke_interval``, ``timeout`` and ``mode``."""


class WaitingSensorArguments(WaitingArguments, SensorTaskArguments, total=False):
    """The arguments of :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`."""


class RemoteWorkArguments(PostHogArguments, total=False):
    """The arguments of :class:`~airflow_provider_posthog.tasks.remote_work.RemoteWorkOperator`."""

    deferrable: bool | None
    poll_interval: float | timedelta
    timeout: float | timedelta | None
    cancel_on_kill: bool
    max_poll_failures: int


class RefreshArguments(RemoteWorkArguments, total=False):
    """The arguments of :class:`~airflow_provider_posthog.tasks.refresh.PostHogRefreshOperator`."""

    filters_override: Mapping[str, Any] | None
    variables_override: Mapping[str, Mapping[str, Any]] | None
    path: str | ObjectStoragePath | None
    format: ResultFormat | None
    overwrite: bool
    object_storage_conn_id: str | None
    on_truncation: OnTruncation
    values: bool
    max_in_flight: int | None


class IntoPostHogArguments(PostHogArguments, total=False):
    """The arguments of :class:`~airflow_provider_posthog.tasks.into_posthog.IntoPostHogOperator`."""

    kind: str
    event: str | None
    event_column: str | None
    distinct_id: str
    timestamp: str | None
    key: Sequence[str] | str
    properties: Properties | None
    group_type: str | None
    historical_migration: bool
    oldest_first: bool
    events_per_second: float | None
    quiet_period: float | timedelta
    poll_interval: float | timedelta
    timeout: float | timedelta
    rejects_path: str | os.PathLike[str] | None
    rejects_table: str | None
    rejects_sql_conn_id: str | None
    max_rejects: int
    deferrable: bool | None
