"""Where an operator's answer goes: a file in object storage, or an XCom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.tasks.storage_path import is_bucket, storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.storage.atomic_file import AtomicFile, Compression
    from airflow_provider_posthog.tasks.identity import Identity

#: XComs are rows of Airflow's database, read by every task after this one and shown in its interface.
MAX_XCOM_ITEMS = 100
MAX_XCOM_BYTES = 48 * 1024
#: The suffix of the note that a file is a task's own, beside it and hidden.
_OWN = ".own"
#: Airflow makes objects of what has such keys, and people's properties are whatever anybody sent to PostHog. In compact
#: JSON a key comes after a bracket or a comma; inside text its first quote would have a backslash before it.
_AIRFLOWS_OWN = pattern(rb'[{,]"__(?:classname__|id__|type|var)":')


@dataclass(frozen=True)
class Output:
    """A file that a task writes, under rules that are the same for all operators.

    Without ``overwrite``, a file that already holds the same bytes is success (a retry after a crash), and any other
    an error.

    :param field: the argument that names it, for errors.
    :param path: where to, as an ``ObjectStoragePath`` or text such as ``s3://bucket/{{ ds }}.csv``.
    :param overwrite: replace a file of that name.
    :param conn_id: Airflow's connection for the object storage.
    """

    field: str
    path: str | ObjectStoragePath
    overwrite: bool = False
    conn_id: str | None = None

    def check(self, example: str = "s3://bucket/{{ ds }}.jsonl") -> None:
        """Refuse a path that names no file.

        :param example: what to write instead.
        :raises PostHogSettingsError: if it is empty, a folder, or leads elsewhere (:func:`.storage_path.storage_path`).
        """
        text = str(self.path)
        if not text.strip() or text.strip().endswith("/") or is_bucket(text):
            raise PostHogSettingsError(self.field, "names no file.", f"Write one, such as '{example}'.")
        storage_path(self.field, self.path, self.conn_id, example=example)

    @cached_property
    def target(self) -> ObjectStoragePath:
        """The file."""
        return storage_path(self.field, self.path, self.conn_id, example="s3://bucket/{{ ds }}.jsonl")

    def refuse_if_there(self, identity: Identity, *, repeatable: bool = True) -> None:
        """Fail before the work is done if its file could not be kept.

        :param identity: the task's; a retry, or a task that was rescheduled, may find the file of the run before it.
        :param repeatable: whether the work may be done again just to find out that its result has no place.
        :raises PostHogSettingsError: if a file is in the way.
        """
        asks_first = not self.overwrite and (identity.is_first or not repeatable)
        if asks_first and self.target.fs.exists(self.target.path):
            raise self._in_the_way()

    def atomic_file(
        self,
        identity: Identity,
        *,
        compression: Compression | None = None,
        watch: Callable[[bytes], None] | None = None,
        reset: Callable[[], None] | None = None,
    ) -> AtomicFile:
        """Return what writes the file beside its final place.

        :param identity: the task's.
        :param compression: ``gzip``, or ``None``.
        :param watch: is shown each chunk before compression.
        :param reset: is called when the file starts again.
        """
        from airflow_provider_posthog.storage.atomic_file import AtomicFile

        return AtomicFile(
            self.target.fs,
            self.target.path,
            token=identity.owner[:12],
            compression=compression,
            watch=watch,
            reset=reset,
        )

    def commit(self, atomic: AtomicFile, *, own: bool = False) -> bool:
        """Give the finished file its name.

        :param atomic: what has written it.
        :param own: note that the file is this task's, so that its retry may replace it: one of several files, whose
            task may yet fail at another. :meth:`settle` ends that.
        :returns: ``False`` if these bytes were there already.
        :raises PostHogSettingsError: if another file is in the way.
        """
        fs, note = self.target.fs, f"{atomic.part.removesuffix('.part')}{_OWN}"
        is_there = not self.overwrite and fs.exists(self.target.path)
        if is_there and atomic.same_as_there():
            return False
        if is_there and not (own and fs.exists(note)):
            raise self._in_the_way()
        if own and not self.overwrite and not is_there:
            with fs.open(note, "wb"):
                pass
        atomic.commit()
        return True

    def settle(self, identity: Identity) -> None:
        """Forget that a file is this task's; what was noted of it is removed.

        :param identity: the task's.
        """
        if self.overwrite:
            return
        note = f"{self.atomic_file(identity).part.removesuffix('.part')}{_OWN}"
        with suppress(OSError):  # it harms nobody
            if self.target.fs.exists(note):
                self.target.fs.rm_file(note)

    def _in_the_way(self) -> PostHogSettingsError:
        return PostHogSettingsError(
            self.field, f"{self.target} already exists.", "Write overwrite=True, or another path."
        )


def json_line(value: Any, name: str) -> bytes:  # noqa: ANN401 - what PostHog answered
    r"""Write a line of JSON. In ASCII: half a surrogate pair has no UTF-8, and readers split lines at U+2028.

    :param value: the value.
    :param name: what it answers, for the error.
    :raises PostHogTransportError: if it is not JSON.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (ValueError, RecursionError):
        raise PostHogTransportError(
            f"the answer to {name} is not JSON: it holds NaN or Infinity, or is nested too deeply"
        ) from None


def unfit_for_xcom(line: bytes) -> str | None:
    """Say why a value should not be kept as an XCom, or ``None``.

    :param line: the value, from :func:`json_line`.
    """
    if len(line) > MAX_XCOM_BYTES:
        return f"has {len(line):,} bytes, more than the {MAX_XCOM_BYTES:,} that an XCom should."
    if _AIRFLOWS_OWN.search(line):
        return "has a key that Airflow takes for its own in an XCom, such as '__type'."
    return None


def check_fits_xcom(result: Mapping[str, Any], what: str, max_rows: int) -> None:
    """Refuse to return rows that are too many or too large for an XCom.

    :param result: what the task would return; ``row_count`` is the number of its rows.
    :param what: whose result it is, for errors.
    :param max_rows: the most rows.
    :raises PostHogSettingsError: if it does not fit.
    """
    problem = unfit_for_xcom(json_line(result, what))
    if result["row_count"] > max_rows:
        problem = f"has {result['row_count']:,} rows, more than max_rows={max_rows}."
    if problem is not None:
        raise PostHogSettingsError(
            "path", f"is not given, and the result {problem}", "Write one, such as 's3://bucket/{{ ds }}.csv'."
        )
