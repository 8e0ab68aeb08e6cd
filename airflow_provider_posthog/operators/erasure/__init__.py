"""The tasks around an erasure: its gate, its end, other places than PostHog, and looking again."""

from __future__ import annotations

from airflow_provider_posthog.operators.erasure.close import PostHogCloseErasureOperator
from airflow_provider_posthog.operators.erasure.end import (
    PostHogDiscardErasureOperator,
    PostHogErasureGateOperator,
    PostHogFinishErasureOperator,
)
from airflow_provider_posthog.operators.erasure.extension import PostHogExtendErasureOperator
from airflow_provider_posthog.operators.erasure.files import PostHogEraseFromFilesOperator
from airflow_provider_posthog.operators.erasure.looking_again import (
    PostHogLookAgainOperator,
    PostHogSealErasureOperator,
)
from airflow_provider_posthog.operators.erasure.suppression import PostHogSuppressPersonsOperator
from airflow_provider_posthog.operators.erasure.warehouse import PostHogEraseFromSqlOperator

__all__ = [
    "PostHogCloseErasureOperator",
    "PostHogDiscardErasureOperator",
    "PostHogEraseFromFilesOperator",
    "PostHogEraseFromSqlOperator",
    "PostHogErasureGateOperator",
    "PostHogExtendErasureOperator",
    "PostHogFinishErasureOperator",
    "PostHogLookAgainOperator",
    "PostHogSealErasureOperator",
    "PostHogSuppressPersonsOperator",
]
