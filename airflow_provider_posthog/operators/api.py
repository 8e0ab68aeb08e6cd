"""Any endpoint of PostHog's API as a task."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.api.states import failure_in
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.result_file import MAX_XCOM_ITEMS, Output, json_line, unfit_for_xcom

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.api.endpoint import Endpoint
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.storage.atomic_file import AtomicFile
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

Shape = Literal["pages", "rows", "file", "value"]

#: What a login page or an error of a proxy comes as, and none of these files.
_NOT_A_FILE = {
    "exports.content": frozenset({"text/html", "application/json"}),
    "file_downloads.download": frozenset({"text/html"}),
}
_BETTER = {
    "exports.content": "PostHogExportToObjectStorageOperator, which proves it whole and counts its rows",
    "file_downloads.download": "a task for each file of the file download",
}


class PostHogApiOperator(PostHogOperator):
    """Calls any endpoint of PostHog's API that docs/api.md lists, by its name and with its arguments.

    Mistakes (an unknown name, a value that does not fit) are refused before anything is sent, with the nearest valid
    name. A list is read to its end, page by page. Jobs have operators of their own, such as
    ``PostHogCreateExportOperator``, which wait and resume what a killed worker began; this one only sends its call, and
    a retry sends it again.

    ::

        PostHogApiOperator(task_id="flags", call="feature_flags.list", path="s3://lake/flags/{{ ds }}.jsonl")

    :param call: the endpoint, such as ``dashboards.move_tile``.
    :param arguments: what it takes, by name. Nothing is coerced. Templates render to text, which only ids in paths
        accept: for other numbers pass a task's output, or set ``render_template_as_native_obj`` on the DAG.
    :param path: where the answer goes, as an ``ObjectStoragePath`` or text such as ``s3://lake/persons/{{ ds
        }}.jsonl``. A list becomes JSON lines, written while it is read; any other answer one JSON document; a file
        (``exports.content``, ``file_downloads.download``) itself. It appears only once it is complete.
    :param max_items: the most items of a list to read; default: all.
    :param overwrite: replace a file of that name. Without it, a file that already holds the same bytes is success (a
        retry after a crash), and any other an error.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    :returns: with ``path``: ``path`` (text), ``bytes`` (int), ``rows`` (int, of a list; else null), ``sha256`` (hex).
        Without: the answer as JSON, at most 48 KiB; of a list (``max_items`` is at most 100) its items. An answer that
        is too large is an error, except for a call that must not be repeated (``exports.create``): then the short
        fields are returned, with a warning.
    :raises PostHogSettingsError: if an argument is wrong, the answer is too large for an XCom, or another file is in
        the way.
    :raises PostHogError: if there is no good answer.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "call",
        "arguments",
        "path",
        "object_storage_conn_id",
    )
    template_fields_renderers: typing.ClassVar[dict[str, str]] = {"arguments": "json"}

    def __init__(
        self,
        *,
        call: str,
        arguments: Mapping[str, Any] | None = None,
        path: str | ObjectStoragePath | None = None,
        max_items: int | None = None,
        overwrite: bool = False,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.call = call
        self.arguments = arguments
        self.path = path
        self.max_items = max_items
        self.overwrite = overwrite
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Send the call."""
        from airflow_provider_posthog.api import catalog

        if not (self.arguments is None or isinstance(self.arguments, Mapping)):
            raise PostHogSettingsError("arguments", "is not a dictionary.", "Write what the endpoint takes, by name.")
        endpoint = catalog.find(self.call)
        made = catalog.build(self.call, self.arguments)
        shape = shape_of(endpoint)
        self._check(shape)
        identity = Identity.of(context)
        output = self._output()
        if output is not None:
            output.refuse_if_there(identity, repeatable=made.repeatable)
        if not identity.is_first and not made.repeatable:
            self.log.warning("%s is sent again: an earlier try may have done it already", made.name)
        try:
            return self._answer(made, shape) if output is None else self._write(made, shape, output, identity)
        finally:
            self.hook.close()

    def _check(self, shape: Shape) -> None:
        """Refuse, before anything is sent, what cannot end well."""
        output = self._output()
        has_path = output is not None
        if output is not None:
            output.check()
        if shape == "file" and not has_path:
            raise PostHogSettingsError(
                "path", f"{self.call} answers with a file.", f"Write path=..., or use {_BETTER[self.call]}."
            )
        limit = self.max_items
        if shape not in ("pages", "rows"):
            if limit is not None:
                raise PostHogSettingsError("max_items", f"{self.call} is not a list.", "Leave it out.")
            return
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise PostHogSettingsError("max_items", "is not a number of items.", "Write 1 or more, or None for all.")
        if not has_path and (limit is None or limit > MAX_XCOM_ITEMS):
            raise PostHogSettingsError(
                "path",
                f"{self.call} is a list, which may be long, and what a task returns is kept as an XCom in Airflow's "
                "database.",
                f"Write path=..., and it is streamed there; or max_items of at most {MAX_XCOM_ITEMS}.",
            )

    def _answer(self, call: Call[Any], shape: Shape) -> Any:  # noqa: ANN401 - JSON
        value = self._value(call) if shape == "value" else list(self._items(call, shape))
        problem = unfit_for_xcom(json_line(value, call.name))
        if problem is None:
            return value
        if not call.repeatable and isinstance(value, Mapping):
            # It is done: a failure would make the task's retry do it a second time.
            self.log.warning("The answer to %s %s Only its short fields are returned.", call.name, problem)
            return {name: field for name, field in value.items() if _is_short(field) and not name.startswith("__")}
        fewer = "; or write a smaller max_items." if shape == "pages" else "."
        raise PostHogSettingsError(
            "path",
            f"the answer to {call.name} {problem}",
            f"Write path=..., and it is written there{fewer}",
        )

    def _value(self, call: Call[Any]) -> Any:  # noqa: ANN401 - JSON
        value = self.hook.send(call)
        failure = failure_in(value)
        if failure is not None:
            raise PostHogJobFailed(f"{call.name} was answered 200, but what it calculates failed: {failure}")
        return value

    def _items(self, call: Call[Any], shape: Shape) -> Iterable[Any]:
        if shape == "pages":
            return self.hook.pages(call, self.max_items)
        return itertools.islice(self.hook.send(call), self.max_items)

    def _output(self) -> Output | None:
        if self.path is None:
            return None
        return Output("path", self.path, self.overwrite, self.object_storage_conn_id)

    def _write(self, call: Call[Any], shape: Shape, output: Output, identity: Identity) -> dict[str, Any]:
        # Opened before anything is sent: a storage that cannot be written to is known by then, in most cases.
        with output.atomic_file(identity) as atomic:
            rows = self._fill(atomic, call, shape)
            output.commit(atomic)
        path = str(output.target)
        shown = path, f"{atomic.size:,}", "" if rows is None else f", {counted(rows, 'row')}"
        self.concludes("Wrote %s: %s bytes%s", *shown)
        return {"path": path, "bytes": atomic.size, "rows": rows, "sha256": atomic.sha256}

    def _fill(self, atomic: AtomicFile, call: Call[Any], shape: Shape) -> int | None:
        """Write the answer; return how many rows it has."""
        rows = None
        if shape == "file":
            from airflow_provider_posthog.download.export_file import download_export
            from airflow_provider_posthog.download.file_kinds import check_content_type
            from airflow_provider_posthog.download.http import download

            fetch = download_export if call.name == "exports.content" else download
            received = fetch(self.hook.client, call, atomic)
            check_content_type(received.content_type, _NOT_A_FILE[call.name], f"the file of {call.name}")
        elif shape == "value":
            atomic.write(json_line(self._value(call), call.name))
        else:
            rows = 0
            for item in self._items(call, shape):
                atomic.write(json_line(item, call.name))
                rows += 1
        atomic.finish()
        return rows


def shape_of(endpoint: Endpoint[..., Any]) -> Shape:
    """Return what an endpoint answers with, by its annotation.

    :param endpoint: the endpoint.
    :returns: ``pages`` (a list in pages), ``rows`` (a list that is whole), ``file`` (bytes) or ``value`` (any other).
    """
    if endpoint.paging != "none":
        return "pages"
    (answer,) = typing.get_args(typing.get_type_hints(endpoint.function)["return"])
    if answer is bytes:
        return "file"
    return "rows" if typing.get_origin(answer) is Sequence else "value"


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 500)
