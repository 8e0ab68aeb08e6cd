"""Pieces that a thread sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from airflow_provider_posthog.load.sending import send_aside


def pieces(count: int, made: list[int] | None = None) -> Iterator[memoryview]:
    for number in range(count):
        if made is not None:
            made.append(number)
        yield memoryview(bytes([number]))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("posthog_copy")]


def test_all_are_sent_in_their_order() -> None:
    sent: list[bytes] = []
    send_aside(lambda taken: sent.extend(map(bytes, taken)), pieces(200))
    assert b"".join(sent) == bytes(range(200))


def test_few_are_made_before_they_are_sent() -> None:
    """One is on its way, one waits, and one is made."""
    made: list[int] = []
    ahead: list[int] = []

    def send(taken: Iterator[memoryview]) -> None:
        for number, _ in enumerate(taken):
            threading.Event().wait(0.01)
            ahead.append(made[-1] - number)

    send_aside(send, pieces(20, made))
    assert len(made) == 20
    assert 1 <= max(ahead) <= 2


def test_an_error_of_a_piece_stops_the_sending_and_comes_out() -> None:
    """Whoever sends must not take what there was for the whole."""
    ends: list[str] = []

    def send(taken: Iterator[memoryview]) -> None:
        try:
            list(taken)
            ends.append("whole")
        except Exception as error:
            ends.append(type(error).__name__)
            raise RuntimeError from error

    def broken() -> Iterator[memoryview]:
        yield from pieces(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_aside(send, broken())
    assert ends == ["_Stopped"]


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_error_of_the_sending_comes_out(after: int) -> None:
    def send(taken: Iterator[memoryview]) -> None:
        for number, _ in enumerate(taken):
            if number == after:
                break
        raise ZeroDivisionError

    made: list[int] = []
    with pytest.raises(ZeroDivisionError):
        send_aside(send, pieces(100, made))
    assert len(made) < after + 5
