"""Send pieces from a thread, while the next one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import BoundedSemaphore

#: Seconds between checks whether a sending thread that takes nothing has ended.
_LOOK = 0.1


class _Stopped(Exception):
    """The pieces end before their end."""


def send_aside(send: Callable[[Iterator[memoryview]], None], pieces: Iterator[memoryview]) -> None:
    """Make pieces here, and let a thread send them.

    An exception that ends a task, such as Airflow's timeout, is raised in the main thread wherever that is. Raised
    here, it passes unchanged. Inside a driver that requests a piece it would become an error of the driver.

    :param send: takes pieces and sends them; gets an error in place of a piece when there will be no more.
    :param pieces: what is made. One waits while one is sent, so that memory stays flat.
    """
    waiting: SimpleQueue[memoryview | bool] = SimpleQueue()
    room = BoundedSemaphore(1)

    def taken() -> Iterator[memoryview]:
        while not isinstance(piece := waiting.get(), bool):
            room.release()
            yield piece
        if not piece:
            raise _Stopped

    whole = False
    with ThreadPoolExecutor(1, "posthog_copy") as thread:
        try:
            try:
                sending = thread.submit(send, taken())
                for piece in pieces:
                    while not room.acquire(timeout=_LOOK):
                        if sending.done():
                            break
                    if sending.done():
                        break
                    waiting.put(piece)
                else:
                    whole = True
            finally:
                waiting.put(whole)
        finally:  # the thread must not wait for ever, even if this was ended between the two lines above
            waiting.put(False)
        sending.result()
