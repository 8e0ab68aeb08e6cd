"""Checks: questions about PostHog that a sensor asks again and again, by name, in a worker or in the triggerer.

A check is a function of keyword arguments that are JSON, and returns the steps to a :class:`Finding`. Triggers carry
its name and its arguments; the name stands for a function in :data:`CHECKS` and nothing else, so that what is stored in
Airflow's database cannot make the triggerer import anything.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param verdict: ``succeeded`` (the condition holds), ``pending``, or ``failed`` (it cannot hold any more; not
        ``final`` if PostHog may still repair it). Its ``reason`` is fit for a log.
    :param facts: what PostHog reported: small, JSON, without personal data. The task returns those of its last check.
    """

    verdict: Verdict
    facts: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[..., Steps[Finding]]

#: Where each check is, as ``module:function``, imported when it is asked for. Names are stored, so never renamed.
CHECKS: dict[str, str] = {
    "cohort_calculated": "airflow_provider_posthog.api.cohort_checks:calculated",
    "events_expiring": "airflow_provider_posthog.results.retention:expiring",
    "experiment_result": "airflow_provider_posthog.api.experiment_checks:result",
    "file_download_slot": "airflow_provider_posthog.api.file_download_checks:slot_free",
    "insight_fresh": "airflow_provider_posthog.api.insight_checks:fresh",
    "insight_threshold": "airflow_provider_posthog.api.insight_checks:threshold",
}


def check(name: str) -> Check:
    """Load a check.

    :param name: a key of :data:`CHECKS`.
    :raises PostHogSettingsError: if there is none of that name.
    """
    where = CHECKS.get(name)
    if where is None:
        raise PostHogSettingsError(
            "check",
            f"is {name!r}, which this version of the provider does not have.",
            "Restart the triggerer and the workers, so that both run the same version.",
        )
    module, _, function = where.partition(":")
    loaded: Check = getattr(importlib.import_module(module), function)
    return loaded


def start(name: str, arguments: Mapping[str, Any]) -> Steps[Finding]:
    """Return the steps of one check.

    :param name: the check's name.
    :param arguments: its arguments.
    :raises PostHogSettingsError: if there is no such check, or it does not take these arguments.
    """
    function = check(name)
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise PostHogSettingsError(
            "check",
            f"is {name!r}, which does not take the arguments that the task stored ({error}).",
            "Restart the triggerer and the workers, so that both run the same version.",
        ) from None
    return function(**arguments)
