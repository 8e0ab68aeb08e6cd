"""Fixtures for the tests of the API layer."""

from __future__ import annotations

import pytest

from tests.support.senders import SENDERS, Sender


@pytest.fixture(params=sorted(SENDERS))
def sender(request: pytest.FixtureRequest) -> Sender:
    """Run the test with the blocking client, and once more with the asynchronous one."""
    return SENDERS[request.param]
