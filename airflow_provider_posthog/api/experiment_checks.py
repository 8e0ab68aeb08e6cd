"""What an experiment has shown so far: rows of its results, and whether one of them is significant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_posthog.api import experiments
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogNotFoundError

#: The columns of a row of results, in their order.
COLUMNS = (
    "experiment_id",
    "experiment",
    "metric_uuid",
    "metric",
    "is_primary",
    "day",
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


def metrics_of(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of an experiment, the primary ones first, each with ``is_primary``.

    :param experiment: the experiment.
    """
    metrics = []
    for field in ("metrics", "metrics_secondary"):
        for metric in experiment.get(field) or ():
            if isinstance(metric, Mapping) and metric.get("uuid"):
                metrics.append({**metric, "is_primary": field == "metrics"})
    return metrics


def series_of(experiment_id: int, metric: Mapping[str, Any]) -> Steps[dict[str, Any] | None]:
    """Return the results of a metric by day; ``None`` if there are none yet.

    :param experiment_id: the experiment's number.
    :param metric: one of :func:`metrics_of`.
    """
    if not metric.get("fingerprint"):
        return None
    try:
        answer: Any = yield experiments.timeseries(
            experiment_id, metric_uuid=str(metric["uuid"]), fingerprint=str(metric["fingerprint"])
        )
    except PostHogNotFoundError:
        return None
    series = answer.get("timeseries")
    return dict(series) if isinstance(series, Mapping) else None


def rows_of(
    experiment: Mapping[str, Any], metric: Mapping[str, Any], series: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each variant and day.

    :param experiment: the experiment.
    :param metric: one of its metrics.
    :param series: the metric's results by day.
    """
    shared = {
        "experiment_id": experiment.get("id"),
        "experiment": experiment.get("name"),
        "metric_uuid": metric.get("uuid"),
        "metric": metric.get("name") or metric.get("uuid"),
        "is_primary": metric.get("is_primary"),
    }
    for day, result in sorted(series.items()):
        if not isinstance(result, Mapping):
            continue
        baseline = result.get("baseline")
        variants = [(each, False) for each in result.get("variant_results") or () if isinstance(each, Mapping)]
        for variant, is_baseline in [*([(baseline, True)] if isinstance(baseline, Mapping) else []), *variants]:
            yield {**shared, "day": str(day)[:10], **_variant(variant, is_baseline)}


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
    """Look whether the latest day's result of a metric is significant.

    :param experiment_id: the experiment's number.
    :param metric: its name or ``uuid``; ``None`` for the first primary one.
    :param variant: of one variant; ``None`` for any but the baseline.
    """
    experiment: Any = yield experiments.retrieve(experiment_id)
    known = metrics_of(experiment)
    chosen = [each for each in known if metric is None or metric in (each["uuid"], each.get("name"))]
    if not chosen:
        return Finding(Verdict("failed", "it has no such metric", final=True), {"experiment_id": experiment_id})
    series = yield from series_of(experiment_id, chosen[0])
    rows = list(rows_of(experiment, chosen[0], series or {}))
    latest = [row for row in rows if row["day"] == rows[-1]["day"] and not row["is_baseline"]] if rows else []
    shown = [row for row in latest if variant is None or row["variant"] == variant]
    significant = [row for row in shown if row["significant"]]
    facts = {"experiment_id": experiment_id, "metric": str(chosen[0]["uuid"]), "results": significant or shown}
    if significant:
        names = ", ".join(str(row["variant"]) for row in significant)
        return Finding(Verdict("succeeded", f"significant: {names}"), facts)
    if experiment.get("end_date") and shown:
        return Finding(Verdict("failed", "it has ended, and its result is not significant", final=True), facts)
    return Finding(Verdict("pending", "no result is significant yet" if shown else "there is no result yet"), facts)
