"""The salt of the audit and the key stay where they are: what two of the switches let out."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
from tests.support.checks import use
from tests.support.scripted import ScriptedServer

SALT = "ca9a5a1700d157a79031e1c40f85931829bc5fc5528f3c1e0a7d24b6a90e5f4d"


def test_reading_the_salt_tells_nobody(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, server, audit_secret=SALT)
    with caplog.at_level(logging.DEBUG):
        hook = PostHogHook()
        assert len(hook.audit_secret()) > 0
    printed = "".join(capsys.readouterr())
    assert SALT not in caplog.text + printed + repr(hook)


def test_a_trigger_stores_its_own_arguments_and_nothing_else() -> None:
    trigger = PostHogJobTrigger(kind="export", job_id="7", posthog_conn_id="there", project_id=None, deadline=1.0)
    _, stored = trigger.serialize()
    assert PostHogJobTrigger(**stored).serialize()[1] == stored
    assert not [name for name in stored if any(word in name for word in ("key", "salt", "password", "token"))]
