"""The line in a failed task's log, just above the error, that leads to the page on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError

#: What Airflow calls: at first, and after a deferral.
_BOUNDARY = ("execute", "execute_complete")
_INSIDE = "_posthog_guided"


class GuidedTask:
    """Logs where an error of this provider is explained, as it leaves the task.

    Airflow's log shows an error's class, its text and its frames, but not its notes, so the address is a line of its
    own. Subclasses need not do anything.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        for name in _BOUNDARY:
            method = cls.__dict__.get(name)
            if callable(method) and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _guided(method))


def _guided(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if _INSIDE in vars(self):  # called by a subclass, which may still handle the error
            return method(self, *args, **kwargs)
        vars(self)[_INSIDE] = True
        try:
            return method(self, *args, **kwargs)
        except PostHogError as error:
            self.log.error("What to do about a %s: %s", type(error).__name__, error.docs)
            raise
        finally:
            del vars(self)[_INSIDE]

    return run
