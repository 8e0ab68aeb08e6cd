"""The salt of erasure certificates: read from the connection, masked, and never shown."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import connect

SALT = "b1946ac92492d2347c6235b4d2611184a3bf4f1b2b0b822cd15d6c15b0f00a08"


def redact(text: str) -> Any:
    """Mask a text as Airflow masks what is logged."""
    try:
        from airflow.sdk.log import redact as mask
    except ImportError:
        try:
            from airflow.sdk.execution_time.secrets_masker import redact as mask  # 3.0
        except ImportError:
            from airflow.utils.log.secrets_masker import redact as mask  # 2.11
    return mask(text)


def test_it_is_read_once(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, connected, audit_secret=f" {SALT}\n")
    hook = PostHogHook()
    assert hook.audit_secret() == SALT
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT")
    assert hook.audit_secret() == SALT
    assert connected.calls() == []


def test_it_is_masked_whenever_the_connection_is_read(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    salt = SALT[::-1]  # each test masks one of its own, as nothing is ever unmasked
    connect(monkeypatch, connected, audit_secret=salt)
    assert salt in redact(f"logged: {salt}"), "this would prove nothing"
    PostHogHook().settings()
    assert redact(f"logged: {salt}") == "logged: ***"


def test_it_is_masked_in_the_triggerer(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    salt = SALT[1:] + "0"
    connect(monkeypatch, connected, audit_secret=salt)
    hook = PostHogHook()

    async def use() -> None:
        await (await hook.async_client()).aclose()

    assert salt in redact(f"logged: {salt}")
    asyncio.run(use())
    assert redact(f"logged: {salt}") == "logged: ***"
    assert hook.audit_secret() == salt


def test_only_who_needs_it_minds_that_it_is_missing(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    assert hook.get_records("SELECT 1 LIMIT 1") == [[1]]
    with pytest.raises(PostHogSettingsError) as caught:
        hook.audit_secret()
    assert caught.value.field == "audit_secret"
    assert "secrets.token_hex(32)" in str(caught.value)


def test_a_bad_one_is_not_shown(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "not so random"
    for salt in (bad, f"{SALT} {SALT}", connected.api_key):
        connect(monkeypatch, connected, audit_secret=salt)
        hook = PostHogHook()
        assert hook.settings().api_key == connected.api_key
        with pytest.raises(PostHogSettingsError) as caught:
            hook.audit_secret()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + json.dumps(str(hook))
        assert salt not in shown
