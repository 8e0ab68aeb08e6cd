"""Statements and the semicolons between them: PostHog takes one statement, and older servers no semicolon."""

from __future__ import annotations

from airflow_provider_posthog.api.hogql.lexer import tokens
from airflow_provider_posthog.exceptions import PostHogSettingsError


def statements(sql: str) -> list[str]:
    """Split HogQL at its semicolons; those in texts, names, braces and comments do not count.

    :param sql: any number of statements.
    :returns: each without its semicolon; pieces of nothing but comments are left out.
    """
    parts: list[str] = []
    begin, is_text, depth = 0, False, 0
    for token in tokens(sql):
        if token.kind == "sign" and token.text in "{}":  # a lambda's block has semicolons of its own
            depth += 1 if token.text == "{" else -1
        if token.kind == "sign" and token.text == ";" and depth <= 0:
            if is_text:
                parts.append(sql[begin : token.start].strip())
            begin, is_text = token.start + 1, False
        elif token.kind not in ("space", "comment"):
            is_text = True
    return [*parts, sql[begin:].strip()] if is_text else parts


def one_statement(sql: object, field: str = "hogql") -> str:
    """Return the only statement of a text as PostHog takes it: semicolons at its end are dropped.

    :param sql: the text.
    :param field: the argument that it was given in.
    :raises PostHogSettingsError: if it is not text, or holds no statement, or several.
    """
    if not isinstance(sql, str):
        raise PostHogSettingsError(field, f"is not text, but of type {type(sql).__name__}.", "Write one SELECT.")
    parts = statements(sql)
    if not parts:
        raise PostHogSettingsError(field, "is empty: it holds 0 statements.", "Write one SELECT.")
    if len(parts) > 1:
        problem = f"holds {len(parts)} statements, and PostHog takes one at a time."
        raise PostHogSettingsError(field, problem, "Write one; give each a task or a call of its own.")
    return parts[0]
