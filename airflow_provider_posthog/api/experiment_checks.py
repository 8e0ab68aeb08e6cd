"""What an experiment has shown so far: rows of its results, and whether one of them is significant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_posthog.api import experiments
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogNotFoundError, clean

#: The columns of a row of results, in their order.
COLUMNS = (
    "experiment_id",
    "experiment",
    "metric_uuid",
    "metric",
    "is_primary",
    "day",
    "as_of",
    "variant",
    "is_baseline",
    "samples",
    "sum",
    "sum_squares",
    "significant",
    "chance_to_win",
    "p_value",
    "interval_low",
    "interval_high",
)

#: What each of them holds.
KINDS = (
    *("int", "text", "text", "text", "bool", "text", "text", "text", "bool", "int"),
    *("float", "float", "bool", "float", "float", "float", "float"),
)


def metrics_of(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of an experiment, its own and saved ones, the primary first, each with ``is_primary``.

    :param experiment: the experiment.
    """
    metrics = [
        {**metric, "is_primary": field == "metrics"}
        for field in ("metrics", "metrics_secondary")
        for metric in experiment.get(field) or ()
        if isinstance(metric, Mapping)
    ]
    for saved in experiment.get("saved_metrics") or ():
        query, metadata = saved.get("query"), saved.get("metadata")
        if isinstance(query, Mapping):
            kind = metadata.get("type") if isinstance(metadata, Mapping) else None
            name = saved.get("name") or query.get("name")
            metrics.append({**query, "name": name, "is_primary": kind in (None, "primary")})
    return sorted((metric for metric in metrics if metric.get("uuid")), key=lambda metric: not metric["is_primary"])


def name_of(metric: Mapping[str, Any]) -> str:
    """Return what a metric is called.

    :param metric: one of :func:`metrics_of`.
    """
    return str(metric.get("name") or metric["uuid"])


def series_of(experiment_id: int, metric: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Return the results of a metric by day; empty if there are none yet.

    :param experiment_id: the experiment's number.
    :param metric: one of :func:`metrics_of`.
    """
    answer = yield from _timeseries(experiment_id, metric)
    return _days(answer)


def _timeseries(experiment_id: int, metric: Mapping[str, Any]) -> Steps[Mapping[str, Any]]:
    if not metric.get("fingerprint"):
        return {}
    try:
        answer: Any = yield experiments.timeseries(
            experiment_id, metric_uuid=str(metric["uuid"]), fingerprint=str(metric["fingerprint"])
        )
    except PostHogNotFoundError:  # servers before 2026 answer 404 if there are no results
        return {}
    return answer if isinstance(answer, Mapping) else {}


def _days(answer: Mapping[str, Any]) -> dict[str, Any]:
    days = answer.get("timeseries") or {}
    return {str(day): result for day, result in days.items() if isinstance(result, Mapping)}


def calculated(run: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Return the results of a calculation by metric, and why others failed, by metric.

    :param run: the calculation.
    """
    good: dict[str, Mapping[str, Any]] = {}
    errors = run.get("metric_errors") or {}
    bad = {str(uuid): _message(error) for uuid, error in errors.items()}
    for result in run.get("results") or ():
        uuid = str(result.get("metric_uuid"))
        if result.get("status") == "completed" and isinstance(result.get("result"), Mapping):
            good[uuid] = result["result"]
        elif result.get("status") == "failed":
            bad[uuid] = clean(result.get("error_message") or "it failed")
    return good, {uuid: reason for uuid, reason in bad.items() if uuid not in good}


def _message(error: object) -> str:
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("error")
    return clean(error) if isinstance(error, str) and error else "it failed"


def rows_of(
    experiment: Mapping[str, Any],
    metric: Mapping[str, Any],
    series: Mapping[str, Any],
    newest: Mapping[str, Any] | None = None,
    as_of: str = "",
) -> Iterator[dict[str, Any]]:
    """Yield a row for each variant and day.

    :param experiment: the experiment.
    :param metric: one of its metrics.
    :param series: the metric's results by day, of which PostHog makes one each night.
    :param newest: the result of a calculation of today; it replaces that of its day.
    :param as_of: the time up to which that calculation counts events, as ISO text.
    """
    shared = {
        "experiment_id": experiment.get("id"),
        "experiment": experiment.get("name"),
        "metric_uuid": metric.get("uuid"),
        "metric": name_of(metric),
        "is_primary": metric.get("is_primary"),
    }
    days: dict[str, tuple[Mapping[str, Any], str | None]] = {
        str(day)[:10]: (result, None) for day, result in series.items()
    }
    if newest is not None:
        days[as_of[:10]] = (newest, as_of)
    for day, (result, until) in sorted(days.items()):
        baseline = result.get("baseline")
        variants = [(entry, False) for entry in result.get("variant_results") or () if isinstance(entry, Mapping)]
        for variant, is_baseline in [*([(baseline, True)] if isinstance(baseline, Mapping) else []), *variants]:
            yield {**shared, "day": day, "as_of": until, **_variant(variant, is_baseline)}


def _variant(variant: Mapping[str, Any], is_baseline: bool) -> dict[str, Any]:
    interval = variant.get("credible_interval") or variant.get("confidence_interval")
    low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
    return {
        "variant": variant.get("key"),
        "is_baseline": is_baseline,
        "samples": variant.get("number_of_samples"),
        "sum": variant.get("sum"),
        "sum_squares": variant.get("sum_squares"),
        "significant": variant.get("significant"),
        "chance_to_win": variant.get("chance_to_win"),
        "p_value": variant.get("p_value"),
        "interval_low": low,
        "interval_high": high,
    }


def result(*, experiment_id: int, metric: str | None = None, variant: str | None = None) -> Steps[Finding]:
    """Check whether a metric's result of the latest day is significant.

    :param experiment_id: the experiment's number.
    :param metric: its name or ``uuid``; ``None`` for the first primary one.
    :param variant: only this variant; ``None`` for any but the baseline.
    """
    experiment: Any = yield experiments.retrieve(experiment_id)
    known = metrics_of(experiment)
    chosen = [entry for entry in known if metric is None or metric in (entry["uuid"], entry.get("name"))]
    if not experiment.get("start_date"):
        return Finding(Verdict("pending", "it is not launched yet"), {"experiment_id": experiment_id})
    if not chosen:
        return Finding(Verdict("failed", "it has no such metric", final=True), {"experiment_id": experiment_id})
    answer = yield from _timeseries(experiment_id, chosen[0])
    rows = list(rows_of(experiment, chosen[0], _days(answer)))
    latest = [row for row in rows if row["day"] == rows[-1]["day"] and not row["is_baseline"]] if rows else []
    shown = [row for row in latest if variant is None or row["variant"] == variant]
    significant = [row for row in shown if row["significant"]]
    facts = {"experiment_id": experiment_id, "metric": str(chosen[0]["uuid"]), "results": significant or shown}
    if significant:
        names = ", ".join(str(row["variant"]) for row in significant)
        return Finding(Verdict("succeeded", f"significant: {names}"), facts)
    if experiment.get("end_date") and shown:
        return Finding(Verdict("failed", "it has ended, and its result is not significant", final=True), facts)
    if not rows and answer.get("status") == "failed":
        errors = answer.get("errors")
        first = next(iter(errors.values()), None) if isinstance(errors, Mapping) else errors
        return Finding(Verdict("pending", f"PostHog could not calculate it so far: {_message(first)}"), facts)
    return Finding(Verdict("pending", "no result is significant yet" if shown else "there is no result yet"), facts)
