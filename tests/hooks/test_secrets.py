"""What is written down of a hook or a client, by pickle and its like, holds no secret of the connection."""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_provider_posthog.api import projects
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import connect

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"
PASSWORD = "pr0xy-pass-word"


@pytest.fixture
def used(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> PostHogHook:
    connect(monkeypatch, connected, audit_secret=SALT)
    hook = PostHogHook()
    hook.send(projects.me())
    assert hook.audit_secret() == SALT
    return hook


def test_a_hook_that_was_used_is_pickled_without_its_connection(used: PostHogHook) -> None:
    key = used.settings().api_key
    written = pickle.dumps(used)
    for secret in (key, SALT):
        assert secret.encode() not in written
        assert secret not in repr(vars(used))
        assert secret not in repr(used)
    for again in (pickle.loads(written), copy.deepcopy(used), copy.copy(used)):
        assert again.settings() == used.settings()
        assert again.audit_secret() == SALT
        assert again.send(projects.me()) == used.send(projects.me())
        again.close()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_client_and_its_settings_are_not_pickled_at_all(used: PostHogHook, protocol: int) -> None:
    settings = used.settings()
    for one in (settings, used.client, AsyncClient(settings), {"in": [Client(settings)]}):
        with pytest.raises(PostHogSettingsError, match="hold the key") as caught:
            pickle.dumps(one, protocol)
        assert settings.api_key not in str(caught.value)
    assert copy.copy(settings) is copy.deepcopy(settings) is settings
