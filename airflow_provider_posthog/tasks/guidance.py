"""The line in a failed task's log, just above the error, that leads to the page on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError

#: What Airflow calls: at first, and after a deferral.
_BOUNDARY = ("execute", "execute_complete")
_INSIDE = "_posthog_guided"
#: Which extra brings a package that a task may miss.
_EXTRAS = {
    "deltalake": "delta",
    "orjson": "warehouse",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "warehouse",
    "pyiceberg": "iceberg",
}


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
            return _with_its_extra(method, self, *args, **kwargs)
        except PostHogError as error:
            self.log.error("What to do about a %s: %s", type(error).__name__, error.docs)
            raise
        finally:
            del vars(self)[_INSIDE]

    return run


def _with_its_extra(method: Callable[..., Any], task: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Say which extra is missing, wherever in a task it is missed."""
    try:
        return method(task, *args, **kwargs)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in _EXTRAS:
            raise
        remedy = f"Install airflow-provider-posthog[{_EXTRAS[package]}]."
        raise PostHogSettingsError(type(task).__name__, f"needs {package}.", remedy) from error
