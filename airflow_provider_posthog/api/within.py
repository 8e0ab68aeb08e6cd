"""A time limit for asynchronous work, on every supported Python."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Wait for work to end, and cancel it if it does not.

    ``asyncio.wait_for`` forgets its own cancellation before Python 3.12, if the work ends at that moment: a trigger
    that Airflow has cancelled would go on.

    :param work: the work.
    :param seconds: how long it may take.
    :raises asyncio.TimeoutError: if it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        raise asyncio.TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody else may ask for it, and asyncio would complain
