"""Experiments and their results (``/api/projects/{id}/experiments/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api.arguments import Limit, Number, Offset, Text
from airflow_provider_posthog.api.call import Call, json_holding, json_item, json_page
from airflow_provider_posthog.api.endpoint import endpoint

_READ = ("experiment:read",)
_WRITE = ("experiment:write",)


class Experiment(TypedDict, total=False):
    """An experiment; ``metrics`` and ``metrics_secondary`` have a ``uuid``, a ``name`` and a ``fingerprint`` each.

    ``saved_metrics`` are shared with other experiments: their ``query`` has the ``uuid`` and the ``fingerprint``, their
    ``metadata`` says by ``type`` whether they are ``primary``.
    """

    id: int
    name: str
    start_date: str | None
    end_date: str | None
    metrics: Sequence[Mapping[str, Any]] | None
    metrics_secondary: Sequence[Mapping[str, Any]] | None
    saved_metrics: Sequence[Mapping[str, Any]] | None
    feature_flag_key: str | None


class ExperimentPage(TypedDict, total=False):
    """A page of experiments."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Experiment]


class MetricResult(TypedDict, total=False):
    """The result of a calculation for one metric; ``status`` is ``pending``, ``completed`` or ``failed``."""

    metric_uuid: str
    status: str
    result: Mapping[str, Any] | None
    error_message: str | None


class Recalculation(TypedDict, total=False):
    """A calculation of all metrics; ``status`` is ``pending``, ``in_progress``, ``completed`` or ``failed``.

    ``results`` are there once it is asked for, not when it is begun. They count up to ``query_to``. A completed one may
    have metrics that failed. ``result_source`` is ``timeseries_fallback`` where PostHog shows daily results because
    nothing was calculated yet.
    """

    id: str
    status: str
    is_existing: bool
    created_at: str
    completed_at: str | None
    query_to: str | None
    total_metrics: int
    failed_metrics: int
    metric_errors: Mapping[str, Any] | None
    result_source: str
    results: Sequence[MetricResult]


class Timeseries(TypedDict, total=False):
    """A metric's results by day, as PostHog makes them each night; a day without one is null.

    ``status`` is ``pending`` (none yet), ``partial``, ``completed`` or ``failed``.
    """

    metric_uuid: str
    status: str
    timeseries: Mapping[str, Any] | None
    errors: Mapping[str, Any] | None


@endpoint("GET", "experiments/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[ExperimentPage]:
    """List experiments.

    :param limit: experiments per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "experiments/{id}/", scopes=_READ)
def retrieve(experiment_id: Number) -> Call[Experiment]:
    """Retrieve an experiment.

    :param experiment_id: its number.
    """
    return retrieve.call(json_item, id=experiment_id)


@endpoint("POST", "experiments/{id}/metrics_recalculation/", scopes=_WRITE, repeatable=True)
def recalculate(experiment_id: Number) -> Call[Recalculation]:
    """Calculate all metrics again, or return the calculation that runs; 400 for an experiment that was not launched.

    :param experiment_id: its number.
    """
    return recalculate.call(json_item, json={}, id=experiment_id)


@endpoint("GET", "experiments/{id}/metrics_recalculation/{run}/", scopes=_READ)
def recalculation(experiment_id: Number, run: Text) -> Call[Recalculation]:
    """Retrieve a calculation, with the results of its metrics.

    :param experiment_id: the experiment's number.
    :param run: its UUID, or ``latest``: the newest that has ended; 404 if there is none.
    """
    return recalculation.call(json_item, id=experiment_id, run=run)


@endpoint("GET", "experiments/{id}/timeseries_results/", scopes=_READ)
def timeseries(experiment_id: Number, *, metric_uuid: Text, fingerprint: Text) -> Call[Timeseries]:
    """Return the results of a metric by day.

    :param experiment_id: the experiment's number.
    :param metric_uuid: the metric's ``uuid``.
    :param fingerprint: the metric's ``fingerprint``.
    """
    query = {"metric_uuid": metric_uuid, "fingerprint": fingerprint}
    return timeseries.call(json_holding("status", str), query=query, id=experiment_id)
