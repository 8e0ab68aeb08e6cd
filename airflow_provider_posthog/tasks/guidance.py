"""What a task's log says at its start, at its end, and above its error: one line each, the same for every task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from airflow_provider_posthog.compat import AirflowNotFoundException, fail_at_once, first_poke_of
from airflow_provider_posthog.exceptions import TROUBLESHOOTING, PostHogError, PostHogSettingsError
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.tasks.log_lines import beginning, end_of, seconds_since

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
#: What Airflow says of an address whose storage no installed provider knows.
_NO_STORAGE = pattern(r"No filesystem registered for scheme (\w+)")
#: Which of Airflow's providers knows a storage.
_PROVIDERS = {
    **dict.fromkeys(("s3", "s3a"), "apache-airflow-providers-amazon[s3fs]"),
    **dict.fromkeys(("gs", "gcs"), "apache-airflow-providers-google"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "apache-airflow-providers-microsoft-azure"),
}


class GuidedTask:
    """Says what begins and what came of it, and where an error of this provider is explained, as it leaves the task.

    Airflow's log shows an error's class, its text and its frames, but not its notes, so the address is a line of its
    own. Subclasses need not do anything; one that has more to say of its success than the numbers of its result calls
    :meth:`concludes`, once or more often, where it would log it: the last text counts, and is logged at the end.
    """

    _conclusion: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        for name in _BOUNDARY:
            method = cls.__dict__.get(name)
            if callable(method) and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _guided(method, first=name == "execute"))

    def concludes(self, text: str, *values: object) -> None:
        """Say what came of the task, for the last line of its log.

        :param text: what, with ``%s`` for each value.
        :param values: the values; none of rows, none that is personal.
        """
        self._conclusion = text % values if values else text


def _guided(method: Callable[..., Any], *, first: bool) -> Callable[..., Any]:
    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if _INSIDE in vars(self):  # called by a subclass, which may still handle the error
            return method(self, *args, **kwargs)
        context = next(
            (argument for argument in (*args[:1], kwargs.get("context")) if isinstance(argument, Mapping)), {}
        )
        began = time.monotonic()
        vars(self)[_INSIDE] = True
        vars(self)["_conclusion"] = None
        try:
            if first and first_poke_of(context) is None:  # once for all pokes
                self.log.info("%s", beginning(self))
            result = _with_its_extra(method, self, *args, **kwargs)
            ending = self._conclusion or end_of(result)
            self.log.info("%s (%.1f s)", ending, seconds_since(context, began))
            return result
        except PostHogError as error:
            self.log.error("What to do about a %s: %s", type(error).__name__, error.docs)
            if _is_lasting(error):
                fail_at_once(error)
            raise
        except AirflowNotFoundException:  # of a connection; a backend of secrets that is down looks the same
            self.log.error("What to do about a connection that is not defined: %s#from-airflow", TROUBLESHOOTING)
            raise
        finally:
            del vars(self)[_INSIDE]

    return run


def _is_lasting(error: PostHogError) -> bool:
    """Return whether another try would certainly end as this one: somebody has to change the DAG or the connection.

    Of a key that is refused, a scope or a query, :class:`~airflow_provider_posthog.retry_policy.PostHogRetryPolicy`
    says so: there, somebody may change something at PostHog meanwhile.
    """
    states = getattr(error, "states", None)
    unknown = isinstance(states, Mapping) and set(states) == {"NOT_FOUND"}
    return isinstance(error, PostHogSettingsError) or unknown or getattr(error, "lasting", False) is True


def _with_its_extra(method: Callable[..., Any], task: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Name the extra or the provider that is missing, wherever in a task it is missed."""
    try:
        return method(task, *args, **kwargs)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in _EXTRAS:
            raise
        remedy = f"Install airflow-provider-posthog[{_EXTRAS[package]}]."
        raise PostHogSettingsError(type(task).__name__, f"needs {package}.", remedy) from error
    except ValueError as error:
        found = _NO_STORAGE.fullmatch(str(error))
        if found is None:
            raise
        provider = _PROVIDERS.get(found[1], "Airflow's provider of that storage")
        raise PostHogSettingsError(
            type(task).__name__, f"cannot reach {found[1]}://.", f"Install {provider} on the workers."
        ) from error
