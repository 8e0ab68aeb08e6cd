"""An endpoint of PostHog: its method, its path and its rules, defined once, and the function that makes its calls."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from airflow_provider_posthog.api.answer_types import Check, check_of
from airflow_provider_posthog.api.arguments import fault_of
from airflow_provider_posthog.api.call import Answer, Bucket, Call, Paging, segment
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError

P = ParamSpec("P")
T = TypeVar("T")


class Endpoint(Generic[P, T]):
    """A function that makes a :class:`~airflow_provider_posthog.api.call.Call`, and checks its arguments.

    Call it like the function. Arguments that do not fit their annotation raise a ``PostHogSettingsError``.

    :param function: the function; its module and its name are the endpoint's name (``persons.list``).
    :param method: the HTTP method.
    :param path: relative to the project, or absolute, with ``{names}``: ``batch_exports/{id}/runs/{run_id}/``.
    :param scopes: the scopes that a personal API key needs; some calls need more, by what they ask for.
    :param bucket: the server's limit that it counts against.
    :param paging: how the list goes on.
    :param repeatable: whether it may be sent again when it is unknown if the first one did its work.
    :param documented: the method under which PostHog documents it, if that is another one; ``None`` for a second way
        to use an endpoint.
    """

    def __init__(
        self,
        function: Callable[P, Call[T]],
        method: str,
        path: str,
        *,
        scopes: tuple[str, ...],
        bucket: Bucket,
        paging: Paging,
        repeatable: bool,
        documented: str | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.method = method
        self.path = path
        self.scopes = scopes
        self.bucket: Bucket = bucket
        self.paging: Paging = paging
        self.repeatable = repeatable
        self.documented = documented
        self.name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Make the call.

        :raises PostHogSettingsError: if an argument does not fit.
        """
        for name, value in self.signature.bind(*args, **kwargs).arguments.items():
            fault = fault_of(value, self._hints[name])
            if fault is not None:
                raise PostHogSettingsError(name, fault.problem, fault.remedy)
        call = self.function(*args, **kwargs)
        try:
            call.query_string()
        except UnicodeEncodeError:
            raise PostHogSettingsError(
                "arguments", "hold a lone surrogate, which cannot be sent.", "Write valid text."
            ) from None
        return call

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}: {self.method} {self.path}>"

    def __reduce__(self) -> str:
        return self.function.__name__  # copied and pickled by name, as a global of its module

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments, by name."""
        return self.signature.parameters

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    @functools.cached_property
    def _check(self) -> Check | None:
        (answer,) = typing.get_args(self._hints["return"])
        return check_of(answer)

    def _read(self, read: Callable[[Answer], Any], answer: Answer) -> Any:  # noqa: ANN401 - T
        """Read an answer, and check that it is what the endpoint declares."""
        value = read(answer)
        fault = None if self._check is None else self._check(value, "")
        if fault is not None:
            raise PostHogTransportError(f"the answer to {self.name} (status {answer.status}) is malformed: {fault}")
        return value

    def call(
        self,
        read: Callable[[Answer], Any],
        *,
        query: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        scopes: tuple[str, ...] = (),
        repeatable: bool | None = None,
        reads_error: Callable[[Answer], bool] | None = None,
        no_slot: str | None = None,
        **path: object,
    ) -> Call[T]:
        """Make a call of this endpoint; for the endpoint's own function.

        :param read: turns a good answer into the value.
        :param query: the query string's parameters; ``None`` values are left out.
        :param json: the body.
        :param scopes: scopes that this call needs besides the endpoint's.
        :param repeatable: whether this call may be repeated, if that depends on its arguments.
        :param path: the values of the names in the path.
        :raises PostHogSettingsError: if an id would lead to another path.
        """
        repeatable = self.repeatable if repeatable is None else repeatable
        # A task's retry must not create something twice just because an unused field is malformed.
        return Call(
            self.name,
            self.method,
            re.sub(r"\{(\w+)\}", lambda name: segment(path[name[1]]), self.path),
            functools.partial(self._read, read) if repeatable else read,
            query=query or {},
            json=json,
            repeatable=repeatable,
            scopes=self.scopes + scopes,
            bucket=self.bucket,
            reads_error=reads_error,
            paging=self.paging,
            no_slot=no_slot,
        )


def endpoint(
    method: str,
    path: str,
    *,
    scopes: tuple[str, ...],
    bucket: Bucket = "crud",
    paging: Paging = "none",
    repeatable: bool | None = None,
    documented: str | None = "",
) -> Callable[[Callable[P, Call[T]]], Endpoint[P, T]]:
    """Make an :class:`Endpoint` of a function.

    :param method: the HTTP method.
    :param path: the path, with ``{names}``.
    :param scopes: the scopes that a key needs.
    :param bucket: the server's limit that it counts against.
    :param paging: how the list goes on.
    :param repeatable: whether it may be sent again; by default all but POST, as sending those again does what sending
        them once does (a second DELETE answers 404).
    :param documented: as in :class:`Endpoint`; by default the method.
    """

    def make(function: Callable[P, Call[T]]) -> Endpoint[P, T]:
        return Endpoint(
            function,
            method,
            path,
            scopes=scopes,
            bucket=bucket,
            paging=paging,
            repeatable=method != "POST" if repeatable is None else repeatable,
            documented=method if documented == "" else documented,
        )

    return make
