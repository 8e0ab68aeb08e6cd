"""The results of experiments as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import experiments
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.api.watched import Watched
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogNotFoundError, PostHogSettingsError, clean
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.lists import flag_of, named_by, number_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.result_file import Output, json_line
from airflow_provider_posthog.tasks.small_table import SmallTable
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.tasks.job import JobArguments

Row = dict[str, Any]


class PostHogExperimentResultsOperator(WatchedJobOperator):
    """Calculates an experiment's metrics again, waits for that, and writes a row for each metric, variant and day.

    PostHog keeps a result of each day, which it makes at night; the calculation adds that of now. A calculation that
    runs already is taken up, also that of a try before: PostHog begins no second one. It cannot be cancelled.

    .. code-block:: python

        PostHogExperimentResultsOperator(
            task_id="results", experiment_id=7, path="s3://lake/experiments/7/{{ ds }}.jsonl", overwrite=True
        )

    :param experiment_id: its number.
    :param path: the file (JSON lines) in any storage; ``experiment_id``, ``experiment``, ``metric_uuid``, ``metric``,
        ``is_primary``, ``day``, ``as_of`` (of the newest: up to when it counts, as ISO text), ``variant``,
        ``is_baseline``, ``samples``, ``sum``, ``sum_squares``, ``significant``, ``chance_to_win``, ``p_value``,
        ``interval_low``, ``interval_high``.
    :param overwrite: replace a file of that name.
    :param object_storage_conn_id: Airflow's connection for the storage.
    :param table: a table with these columns, in place of ``path`` or beside it; it is made if it is not there. The
        experiment's rows are replaced. Needs the extra ``warehouse``.
    :param sql_conn_id: Airflow's connection of its database.
    :param recalculate: calculate first; else what there is is written.
    :param allow_failed: write the rest if PostHog could not calculate some metrics.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`; ``timeout`` is 1,800 s by
        default. The key needs ``experiment:read``, and ``experiment:write`` to calculate.
    :returns: ``experiment_id``, ``recalculation_id`` (text; null if none was asked for), ``rows``, ``metrics`` (how
        many have results), ``without`` (names of those that have none), ``failed`` (names of those that PostHog could
        not calculate), ``path``, ``table``.
    :raises PostHogSettingsError: if an argument is wrong, or the experiment was not launched.
    :raises PostHogJobFailed: if the calculation, or that of a metric, failed, or no metric has a result.
    :raises PostHogJobTimeout: if it did not end in time.
    """

    template_fields: Sequence[str] = (
        *WatchedJobOperator.template_fields,
        *("experiment_id", "path", "overwrite", "object_storage_conn_id", "table", "sql_conn_id"),
    )
    twice_is_harmless = True

    def __init__(
        self,
        *,
        experiment_id: int | str,
        path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        object_storage_conn_id: str | None = None,
        table: str | None = None,
        sql_conn_id: str | None = None,
        recalculate: bool = True,
        allow_failed: bool = False,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_id = experiment_id
        self.path = path
        self.overwrite = overwrite
        self.object_storage_conn_id = object_storage_conn_id
        self.table = table
        self.sql_conn_id = sql_conn_id
        self.recalculate = recalculate
        self.allow_failed = allow_failed
        self._asked_at = 0.0

    def default_timeout(self) -> float:
        """Return half an hour."""
        return 1_800.0

    def run_to_completion(self, context: Context) -> dict[str, Any]:
        """Calculate and write."""
        if self.recalculate:
            return super().run_to_completion(context)
        self._identity = Identity.of(context)
        number = int(self.prepare()["experiment"])
        self.push_link(context, f"experiments/{number}")
        return self._write(number, {})

    def prepare(self) -> dict[str, Any]:
        """Check the arguments, and that the experiment has begun."""
        number = number_of("experiment_id", self.experiment_id)
        output, table = self._output(), self._small_table(number)
        if output is None and table is None:
            raise PostHogSettingsError("path", "is empty, and so is table.", "Write where the rows go.")
        if output is not None:
            output.check("s3://lake/experiments/{{ ds }}.jsonl")
            output.refuse_if_there(self._identity)
        if table is not None:
            table.check()
        with named_by("experiment_id", number, "experiment"):
            experiment, self._asked_at = self.server_time(experiments.retrieve(number))
        if self.recalculate and not experiment.get("start_date"):
            raise PostHogSettingsError("experiment_id", "is of an experiment that has not begun.", "Launch it first.")
        return {"experiment": number}

    def _output(self) -> Output | None:
        if not self.path:
            return None
        return Output("path", self.path, flag_of("overwrite", self.overwrite), self.object_storage_conn_id)

    def _small_table(self, number: int) -> SmallTable | None:
        from airflow_provider_posthog.api.experiment_checks import COLUMNS, KINDS

        if bool(self.table) != bool(self.sql_conn_id):
            raise PostHogSettingsError("table", "goes with sql_conn_id.", "Write both, or neither.")
        if not self.table:
            return None
        columns = dict(zip(COLUMNS, KINDS, strict=True))
        return SmallTable("table", str(self.sql_conn_id), self.table, columns, {"experiment_id": (number,)})

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Begin the calculation, or take up the one that goes on."""
        if self.keeps_known:
            newest = self._newest(request)
            self.keep_known(self._asked_at, [] if newest is None else [(str(newest["id"]), math.inf)])
        recalculation, at = self.server_time(experiments.recalculate(request["experiment"]))
        return self._text(request["experiment"], str(recalculation["id"]), at), {}

    @staticmethod
    def _text(number: int, run_id: str, at: float) -> str:
        return str(Watched("recalculation", (str(number), run_id), int(at)))

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the newest calculation, if this task may have begun it."""
        newest = self._newest(request)
        created = moment(newest.get("created_at")) if newest is not None else None
        if newest is None or created is None:
            return
        at, known = created.timestamp(), self.known(experiments.retrieve(request["experiment"]))
        if not known.has(str(newest["id"]), at):
            text = self._text(request["experiment"], str(newest["id"]), at)
            yield self.found(text, at, request), self.ask(Watched.parse(text))

    def _newest(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        try:
            newest = self.hook.client.send(experiments.recalculation(request["experiment"], "latest"))
        except PostHogNotFoundError:
            return None
        return newest if newest.get("id") else None

    def link(self, job: Job) -> str:
        """Return the experiment's path.

        :param job: the job.
        """
        return f"experiments/{Watched.parse(job.id).names[0]}"

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Write the rows, with what the calculation has found.

        :param job: the calculation.
        """
        text, run_id = Watched.parse(job.id).names
        if not self.wait_for_completion:
            return {"experiment_id": int(text), "recalculation_id": run_id}
        calculation: Call[Any] = experiments.recalculation(int(text), run_id)
        return self._write(int(text), self.hook.client.send(calculation))

    def _write(self, number: int, calculation: Mapping[str, Any]) -> dict[str, Any]:
        rows, counts = self._rows(number, calculation)
        if not counts["metrics"]:
            raise PostHogJobFailed(f"No metric of experiment {number} has a result.", job_id=str(number))
        output, table = self._output(), self._small_table(number)
        if output is not None:
            with output.atomic_file(self._identity) as atomic:
                for row in rows:
                    atomic.write(json_line(row, f"experiment {number}"))
                atomic.finish()
                output.commit(atomic)
        if table is not None:
            table.write([_typed(row) for row in rows])
        words = number, counted(len(rows), "row"), counted(counts["metrics"], "metric")
        self.concludes("Experiment %d: %s of %s", *words)
        return {
            "experiment_id": number,
            "recalculation_id": calculation.get("id"),
            "rows": len(rows),
            **counts,
            "path": None if output is None else str(output.target),
            "table": self.table or None,
        }

    def _rows(self, number: int, calculation: Mapping[str, Any]) -> tuple[list[Row], dict[str, Any]]:
        from airflow_provider_posthog.api.experiment_checks import calculated, metrics_of, name_of, rows_of, series_of

        experiment = self.hook.client.send(experiments.retrieve(number))
        metrics = metrics_of(experiment)
        newest, errors = calculated(calculation)
        named = {str(metric["uuid"]): name_of(metric) for metric in metrics}
        failed = [named.get(uuid, uuid) for uuid in errors]
        if errors and not self.allow_failed:
            first = clean(next(iter(errors.values())))
            raise PostHogJobFailed(
                f"PostHog could not calculate {len(errors)} of {len(metrics)} metrics of experiment {number}: "
                f"{', '.join(map(clean, failed))}. {first}. allow_failed=True writes the rest.",
                job_id=str(calculation.get("id")),
            )
        rows: list[Row] = []
        without: list[str] = []
        as_of = str(calculation.get("query_to") or calculation.get("completed_at") or "")
        for metric in metrics:
            series = run(series_of(number, metric), self.hook.client)
            made = list(rows_of(experiment, metric, series, newest.get(str(metric["uuid"])) if as_of else None, as_of))
            rows += made
            if not made:
                without.append(name_of(metric))
        return rows, {"metrics": len(metrics) - len(without), "without": without, "failed": failed}


def _typed(row: Row) -> tuple[Any, ...]:
    """Return the values of a row as the table's columns hold them: PostHog writes a whole number for some fractions."""
    from airflow_provider_posthog.api.experiment_checks import COLUMNS, KINDS

    return tuple(
        float(row[name]) if kind == "float" and row[name] is not None else row[name]
        for name, kind in zip(COLUMNS, KINDS, strict=True)
    )
