"""Persons: found, deleted, their properties changed. ``sensors.persons`` proves that they are gone."""

from __future__ import annotations

from airflow_provider_posthog.operators.persons.delete import PostHogDeletePersonsOperator
from airflow_provider_posthog.operators.persons.properties import (
    PostHogDeletePersonPropertyOperator,
    PostHogUpdatePersonPropertiesOperator,
)
from airflow_provider_posthog.operators.persons.resolve import PostHogResolvePersonsOperator
from airflow_provider_posthog.operators.persons.sweep import PostHogSweepErasureFilesOperator

__all__ = [
    "PostHogDeletePersonPropertyOperator",
    "PostHogDeletePersonsOperator",
    "PostHogResolvePersonsOperator",
    "PostHogSweepErasureFilesOperator",
    "PostHogUpdatePersonPropertiesOperator",
]
