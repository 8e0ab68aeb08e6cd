"""PostHog's endpoints as tasks: queries that PostHog keeps under a name, which a key that belongs to nobody may run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import query_endpoints
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError, PostHogValidationError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.results.answer import read
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lists import named_by
from airflow_provider_posthog.tasks.result_file import Output, check_fits_xcom

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

#: What each age of PostHog calls "calculate it afresh".
_FRESH = ("force", "force_blocking")
_NAME = pattern(r"(?!\.+$)[^\s/?#%\\]{1,200}")


class PostHogRunEndpointOperator(PostHogOperator):
    """Runs an endpoint, and returns its rows or writes them to a file.

    A materialized endpoint answers 1,200 times a minute and 12,000 an hour, ten at once, where queries have 240, 2,400
    and three; its rows are as old as its last materialization. A project secret key (``phs_...``) with the scope
    ``endpoint:read`` may run it, so that the task keeps working when a colleague and their key leave.

    ::

        PostHogRunEndpointOperator(task_id="numbers", endpoint="events-by-day", variables={"country": "NL"})

    :param endpoint: its name.
    :param variables: values, by the names of its variables.
    :param fresh: calculate it anew; otherwise PostHog may answer from its cache.
    :param limit: how many rows at the most; more are an error, unless ``allow_cut``.
    :param allow_cut: return the first ``limit`` rows although there are more.
    :param path: where the rows go, as for ``PostHogQueryOperator``.
    :param overwrite: replace a file of that name.
    :param max_rows: how many rows may be returned as an XCom; more need a ``path``.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`.
    :returns: ``endpoint``, ``columns`` (list of ``{"name", "type"}``), ``row_count`` (int), ``rows`` (list of lists, or
        null with a ``path``), ``is_cached`` (bool), ``last_refresh`` (ISO text or null); ``path``, ``bytes``
        and ``sha256`` of the file, else null.
    :raises PostHogSettingsError: if an argument is wrong, or there are too many rows for an XCom.
    :raises PostHogIncompleteError: if PostHog has more rows than it answered with.
    """

    operator_extra_links = (PostHogLink(),)
    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        *("endpoint", "variables", "limit", "path", "object_storage_conn_id"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"variables": "json"}

    def __init__(
        self,
        *,
        endpoint: str,
        variables: Mapping[str, Any] | None = None,
        fresh: bool = True,
        limit: int | str | None = None,
        allow_cut: bool = False,
        path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        max_rows: int = 100,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.variables = variables
        self.fresh = fresh
        self.limit = limit
        self.allow_cut = allow_cut
        self.path = path
        self.overwrite = overwrite
        self.max_rows = max_rows
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Run it."""
        self._check()
        identity, output = Identity.of(context), self._output()
        if output is not None:
            from airflow_provider_posthog.results.files import format_of, require_format

            output.check("s3://bucket/{{ ds }}.parquet")
            require_format(format_of(str(self.path), field="path"), field="path")
            output.refuse_if_there(identity)
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/endpoints/{self.endpoint}")
        with named_by("endpoint", self.endpoint, "endpoint", "Write its name."):
            raw = self._run()
        known = {} if self.fresh else {"is_cached": False}  # rows of the cache are what was asked for
        answer = read({**raw, "hasMore": None, **known}, None)
        if raw.get("hasMore") is True and not self.allow_cut:
            raise PostHogIncompleteError(
                f"Endpoint {self.endpoint!r} has more rows than the {len(answer.rows):,} of its answer. Raise limit."
            )
        result = self._result(raw, answer)
        if output is not None:
            return {**result, "rows": None, **self._write(output, raw, identity)}
        check_fits_xcom(result, "the endpoint", self.max_rows)
        return result

    def _check(self) -> None:
        """Refuse bad arguments, by their own names."""
        if not isinstance(self.endpoint, str) or not _NAME.fullmatch(self.endpoint):
            raise PostHogSettingsError("endpoint", "is not an endpoint's name.", "Write it as PostHog shows it.")
        text = str(self.limit).strip()
        if self.limit not in (None, "") and (isinstance(self.limit, bool) or not text.isdecimal() or int(text) < 1):
            raise PostHogSettingsError("limit", "is not a number from 1 on.", "Write a number from 1 on.")
        if isinstance(self.max_rows, bool) or not isinstance(self.max_rows, int) or self.max_rows < 0:
            raise PostHogSettingsError("max_rows", "is not a number of rows.", "Write 0 or more.")
        names = self.variables if isinstance(self.variables, Mapping) else None
        if self.variables and (names is None or not all(isinstance(name, str) for name in names)):
            raise PostHogSettingsError(
                "variables", "are not values by the names of variables.", "Write {'country': 'NL'}, with text as names."
            )
        try:
            json.dumps(dict(names or {}), allow_nan=False)
        except (TypeError, ValueError):
            raise PostHogSettingsError(
                "variables", "cannot be sent as JSON.", "Use text, finite numbers, lists and dictionaries."
            ) from None

    def _run(self) -> Mapping[str, Any]:
        """Run it, by the words of this server's age."""
        limit = int(self.limit) if self.limit not in (None, "") else None  # a template makes text of a number
        ages: Sequence[Any] = _FRESH if self.fresh else (None,)
        for refresh in ages:
            call = query_endpoints.run(self.endpoint, variables=self.variables, refresh=refresh, limit=limit)
            try:
                return self.hook.client.send(call)
            except PostHogValidationError as error:
                if refresh == ages[-1] or (error.attr != "refresh" and "refresh" not in str(error.detail)):
                    raise
        raise AssertionError("unreachable")

    def _result(self, raw: Mapping[str, Any], answer: Any) -> dict[str, Any]:  # noqa: ANN401 - an Answer
        columns = zip(answer.names(), answer.kinds(), strict=True) if answer.columns else ()
        return {
            "endpoint": self.endpoint,
            "columns": [{"name": name, "type": kind} for name, kind in columns],
            "row_count": len(answer.rows),
            "rows": answer.rows,
            "is_cached": raw.get("is_cached") is True,
            "last_refresh": raw.get("last_refresh"),
            "path": None,
            "bytes": None,
            "sha256": None,
        }

    def _output(self) -> Output | None:
        if self.path is None:
            return None
        return Output("path", self.path, self.overwrite, self.object_storage_conn_id)

    def _write(self, output: Output, raw: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
        from airflow_provider_posthog.results.files import compression_of, format_of, write_result
        from airflow_provider_posthog.results.insight_tables import table_of

        path, asked = str(self.path), {"query": {"kind": "HogQLQuery"}, **raw}
        answer: Any = raw
        with output.atomic_file(identity, compression=compression_of(path)) as atomic:
            write_result(atomic, answer, lambda: table_of(asked), format_of(path))
            output.commit(atomic)
        self.concludes("Wrote %s: %s bytes", output.target, f"{atomic.size:,}")
        return {"path": str(output.target), "bytes": atomic.size, "sha256": atomic.sha256}
