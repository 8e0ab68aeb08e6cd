"""The results of experiments as rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import experiments
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogJobTimeout, PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.result_file import Output, json_line
from airflow_provider_posthog.tasks.telling import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

_ENDED = frozenset({"completed", "failed"})


class PostHogExperimentResultsOperator(PostHogOperator):
    """Calculates an experiment's metrics again, waits for that, and writes a row for each metric, variant and day.

    If a calculation is already running, also one of an earlier try, the task waits for that.

    .. code-block:: python

        PostHogExperimentResultsOperator(
            task_id="results", experiment_id=7, path="s3://lake/experiments/7/{{ ds }}.jsonl", overwrite=True
        )

    :param experiment_id: its number.
    :param path: the file (JSON lines) in any storage; ``experiment_id``, ``experiment``, ``metric_uuid``, ``metric``,
        ``is_primary``, ``day``, ``variant``, ``is_baseline``, ``samples``, ``sum``, ``sum_squares``, ``significant``,
        ``chance_to_win``, ``p_value``, ``interval_low``, ``interval_high``.
    :param overwrite: replace a file of that name.
    :param object_storage_conn_id: Airflow's connection for the storage.
    :param recalculate: calculate first; otherwise the existing results are written.
    :param poll_interval: seconds (or a timedelta) between two looks.
    :param timeout: seconds (or a timedelta) that the calculation may take.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``experiment:read``, and
        ``experiment:write`` to calculate.
    :returns: ``experiment_id``, ``rows``, ``metrics`` (how many have results), ``without`` (names of those that have
        none), ``path``.
    :raises PostHogJobFailed: if the calculation failed, or no metric has a result.
    :raises PostHogJobTimeout: if it did not end in time.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "experiment_id",
        "path",
        "overwrite",
        "object_storage_conn_id",
    )
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        experiment_id: int | str,
        path: str | ObjectStoragePath,
        overwrite: bool = False,
        object_storage_conn_id: str | None = None,
        recalculate: bool = True,
        poll_interval: float | timedelta = 15.0,
        timeout: float | timedelta = 1800.0,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_id = experiment_id
        self.path = path
        self.overwrite = overwrite
        self.object_storage_conn_id = object_storage_conn_id
        self.recalculate = recalculate
        self.poll_interval = poll_interval
        self.timeout = timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Calculate and write."""
        text = str(self.experiment_id).strip()
        if not text.isdecimal() or not int(text):
            raise PostHogSettingsError("experiment_id", "is not a number.", "Write the number in its address.")
        number, identity = int(text), Identity.of(context)
        output = Output("path", self.path, self.overwrite, self.object_storage_conn_id)
        output.check("s3://lake/experiments/{{ ds }}.jsonl")
        output.refuse_if_there(identity)
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/experiments/{number}")
        if self.recalculate:
            self._calculate(number)
        rows, result, without = self._rows(number)
        if not result:
            raise PostHogJobFailed(f"No metric of experiment {number} has a result.", job_id=str(number))
        with output.atomic_file(identity) as atomic:
            for row in rows:
                atomic.write(json_line(row, f"experiment {number}"))
            atomic.finish()
            output.commit(atomic)
        self.concludes("Experiment %d: %s of %s", number, counted(len(rows), "row"), counted(result, "metric"))
        return {
            "experiment_id": number,
            "rows": len(rows),
            "metrics": result,
            "without": without,
            "path": str(output.target),
        }

    def _calculate(self, number: int) -> None:
        poll, end = (
            seconds_of("poll_interval", self.poll_interval, 0.1),
            time.time() + seconds_of("timeout", self.timeout, 0),
        )
        state = self.hook.send(experiments.recalculate(number))
        run_id = str(state.get("id") or "latest")
        while str(state.get("status")).lower() not in _ENDED:
            if time.time() >= end:
                raise PostHogJobTimeout(
                    f"The metrics of experiment {number} are still {state.get('status')!s:.40} after the timeout.",
                    job_id=run_id,
                )
            time.sleep(min(poll, max(0.0, end - time.time())))
            state = self.hook.send(experiments.recalculation(number, run_id))
        if str(state.get("status")).lower() != "completed":
            raise PostHogJobFailed(f"PostHog could not calculate the metrics of experiment {number}.", job_id=run_id)

    def _rows(self, number: int) -> tuple[list[dict[str, Any]], int, list[str]]:
        from airflow_provider_posthog.api.experiment_checks import metrics_of, rows_of, series_of

        experiment = self.hook.send(experiments.retrieve(number))
        rows: list[dict[str, Any]] = []
        without: list[str] = []
        metrics = metrics_of(experiment)
        for metric in metrics:
            series = run(series_of(number, metric), self.hook.client)
            made = list(rows_of(experiment, metric, series or {}))
            rows += made
            if not made:
                without.append(str(metric.get("name") or metric["uuid"]))
        return rows, len(metrics) - len(without), without
