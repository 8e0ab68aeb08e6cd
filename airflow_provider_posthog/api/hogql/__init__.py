"""The HogQL that a client has to read: its tokens, its statements, and what limits their rows."""

from airflow_provider_posthog.api.hogql.lexer import Token, significant, tokens
from airflow_provider_posthog.api.hogql.limits import Arm, Limits, arms, limits_of
from airflow_provider_posthog.api.hogql.split import one_statement, statements

__all__ = ["Arm", "Limits", "Token", "arms", "limits_of", "one_statement", "significant", "statements", "tokens"]
