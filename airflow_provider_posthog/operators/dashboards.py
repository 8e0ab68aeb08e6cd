"""Dashboards as tasks."""

from __future__ import annotations

from airflow_provider_posthog.tasks.dashboard import PostHogDashboardTask


class PostHogRefreshDashboardOperator(PostHogDashboardTask):
    """Calculates all insights of a dashboard afresh, as the dashboard shows them, and proves each.

    PostHog keeps a tile's numbers apart from those of the bare insight, and its own refresh of a whole dashboard
    calculates one tile after the other in one request, which gateways cut, and reports failures tile by tile in an
    answer of status 200. This task requests each insight on its own, a few at a time, and names all that failed
    together.

    ::

        PostHogRefreshDashboardOperator(task_id="refresh", dashboard=7, deferrable=True)

    :param dashboard: the dashboard's id, or what another refresh returned.
    :param require_all: fail if the key may not see the insight of a tile. Without it such tiles are counted.
    :param include: only these insights of it: ids, short ids or names.
    :param exclude: all but these.
    :param combined_path: one more file, ``.csv``, ``.jsonl`` (also with ``.gz``), ``.xlsx`` or ``.parquet``: the
        numbers of all its insights as one long table, with the columns ``insight_id``, ``short_id``, ``insight`` (its
        name), ``series``, ``breakdown``, ``date`` and ``value`` (docs/insights.md). SQL insights, which have columns of
        their own, are not in it.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.refresh.PostHogRefreshOperator`: ``deferrable``,
        ``path``, ``max_in_flight``, ``timeout``, ``variables_override``, ``filters_override``, ...
    :returns: ``dashboard_id`` (int), ``name``, ``insights`` (list: per insight what
        :class:`~airflow_provider_posthog.operators.insights.PostHogRefreshInsightOperator` returns),
        ``refreshed``, ``text_tiles`` and ``hidden_tiles`` (int), ``last_refresh`` (ISO text: that of the oldest
        result, null without insights), ``url``. With ``include`` or ``exclude`` also ``left_out_tiles`` (int), and
        ``left_out`` (list) if the XCom of hundreds of insights would be too large; with ``combined_path`` also
        ``combined``: ``path``, ``rows`` (int) and ``without`` (the ids of insights that are not in it). The same
        numbers, without ``insights``, are the ``extra`` of the events of the task's asset outlets.
    :raises PostHogSettingsError: if an argument is wrong, or tiles are hidden and must not be.
    :raises PostHogNotFoundError: if there is no such dashboard, or it was deleted.
    :raises PostHogJobFailed: if an insight is not proved to be fresh: which, and why.
    :raises PostHogJobTimeout: if not all ended in time.
    """
