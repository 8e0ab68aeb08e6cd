"""What OpenLineage learns about a transfer: what was read from PostHog, what was written, and how much.

Nothing here is imported from OpenLineage before its provider asks for it. Failures here never fail a task.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_posthog.api.hogql import tokens
from airflow_provider_posthog.assets import Dataset, openlineage_namespace
from airflow_provider_posthog.compat import ObjectStoragePath, openlineage_listens
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.patterns import pattern

if TYPE_CHECKING:
    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.extract.sources import Source

_PLACEHOLDER = pattern(r"\{[^{}]*\}")
#: What stands for comments, and for texts, which may be about somebody.
_HIDDEN = {"comment": " ", "text": "'...'", "template": "f'...'", "tag": "<...>"}
_CLOSED = pattern(r"(['\"`]).*\1", re.DOTALL)
_END_OF_QUERY = "\n) AS source"
#: What the queries of insights and lists read, as far as it is one table.
_TABLES = {
    "ActorsQuery": "persons",
    "EventsQuery": "events",
    "FunnelsQuery": "events",
    "GroupsQuery": "groups",
    "LifecycleQuery": "events",
    "PathsQuery": "events",
    "RetentionQuery": "events",
    "StickinessQuery": "events",
    "TrendsQuery": "events",
}
#: The files of these are named by their path alone.
_LOCAL = ("file", "local")
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "adl": "abfss", "az": "abfss"}


class Thing(NamedTuple):
    """Something in a project, as in the URIs of assets: ``events``, or ``dashboard/7``."""

    kind: str
    id: int | str | None = None


@dataclass(frozen=True)
class Lineage:
    """What a task has read and written.

    :param settings: where the project is.
    :param read: what was read there.
    :param written: what was written.
    :param statement: the HogQL that it was read by.
    :param columns: names and types of what was written, as far as they are known.
    :param rows: how many rows were written; ``None`` if that is not known, as after a failure.
    :param size: how many bytes.
    :param files: how many files.
    """

    settings: ClientSettings
    read: Sequence[Thing]
    written: Dataset
    statement: str | None = None
    columns: Sequence[tuple[str, str]] = ()
    rows: int | None = None
    size: int | None = None
    files: int | None = None

    @classmethod
    def of_source(
        cls,
        settings: ClientSettings,
        source: Source,
        written: Dataset,
        result: Mapping[str, Any],
        columns: Sequence[Sequence[str]] | None = None,
    ) -> Lineage:
        """Return what a task has read by HogQL.

        :param settings: where the project is.
        :param source: what was read.
        :param written: where it went.
        :param result: the task's result, with counts as ``rows``, ``bytes`` and ``files``.
        :param columns: names and types of what was written.
        """
        return cls(
            settings,
            things_of(source),
            written,
            statement=statement_of(source),
            columns=[(name, kind) for name, kind in columns or ()],
            rows=result.get("rows"),
            size=result.get("bytes"),
            files=result.get("files"),
        )


class LineageMixin(ABC):
    """Tells OpenLineage what the task has read and written. Subclasses say what that is, in :meth:`lineage`."""

    #: Whether :meth:`lineage` reads files. OpenLineage asks in a child process, where their file systems do not work.
    lineage_reads_files: ClassVar[bool] = False
    _task_result: Mapping[str, Any] = MappingProxyType({})
    _lineage: Lineage | None = None
    log: Any

    @abstractmethod
    def lineage(self, result: Mapping[str, Any]) -> Lineage | None:
        """Return what was read and written; ``None`` if that cannot be said.

        :param result: the task's result; empty if it failed.
        """

    def note_lineage(self, result: Mapping[str, Any]) -> None:
        """Keep what OpenLineage will ask for.

        :param result: the task's result.
        """
        self._task_result = result
        try:
            if self.lineage_reads_files and openlineage_listens():
                self._lineage = self.lineage(result)
        except Exception as error:  # the work is done, and must not fail for want of lineage
            self.log.warning("OpenLineage is not told what this task has done: %s", type(error).__name__)

    def get_openlineage_facets_on_complete(self, task_instance: object) -> Any:  # noqa: ANN401 - OperatorLineage
        """Return what OpenLineage records of a success; only its provider calls this.

        :param task_instance: the task instance.
        """
        return as_openlineage(self._lineage or self.lineage(self._task_result))

    def get_openlineage_facets_on_failure(self, task_instance: object) -> Any:  # noqa: ANN401 - OperatorLineage
        """Return what OpenLineage records of a failure: the same, without counts; only its provider calls this.

        :param task_instance: the task instance.
        """
        return as_openlineage(self.lineage({}))


def as_openlineage(lineage: Lineage | None) -> Any:  # noqa: ANN401 - OperatorLineage
    """Return what OpenLineage's provider takes.

    :param lineage: what a task has read and written.
    """
    from airflow.providers.common.compat.openlineage import facet
    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found,unused-ignore]

    if lineage is None:
        return OperatorLineage()
    namespace, project = openlineage_namespace(lineage.settings.base_url), lineage.settings.project_id
    facets: dict[str, Any] = {}
    if lineage.columns:
        fields = [facet.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in lineage.columns]
        facets["schema"] = facet.SchemaDatasetFacet(fields=fields)
    statistics: dict[str, Any] = {}
    if lineage.rows is not None or lineage.size is not None:
        numbers: dict[str, Any] = {"rowCount": lineage.rows, "size": lineage.size, "fileCount": lineage.files}
        statistics["outputStatistics"] = facet.OutputStatisticsOutputDatasetFacet(
            **{name: count for name, count in numbers.items() if count is not None}
        )
    paths = [[str(part) for part in (project, *thing) if part is not None] for thing in lineage.read]
    return OperatorLineage(
        inputs=[facet.Dataset(namespace=namespace, name="/".join(path)) for path in paths],
        outputs=[facet.OutputDataset(*lineage.written, facets=facets, outputFacets=statistics)],
        job_facets={"sql": facet.SQLJobFacet(query=lineage.statement)} if lineage.statement else {},
    )


def of_export(
    settings: ClientSettings, export: Mapping[str, Any], written: Dataset, result: Mapping[str, Any]
) -> Lineage:
    """Return what a task has read that fetched the file of an export: the insight, dashboard or tables it is of.

    :param settings: where the project is.
    :param export: PostHog's description of the export.
    :param written: where the file is.
    :param result: the task's result, with ``rows`` and ``bytes``.
    """
    from airflow_provider_posthog.api import insights

    context = export.get("export_context")
    source = (insights.unwrap(context.get("source")) if isinstance(context, dict) else None) or {}
    hogql = source.get("query") if source.get("kind") == "HogQLQuery" else None
    statement = without_values(hogql) if isinstance(hogql, str) else None
    thing = Thing("export", export.get("id"))
    if export.get("insight"):
        thing = _insight(settings, int(export["insight"])) or thing
    elif export.get("dashboard"):
        thing = Thing("dashboard", export["dashboard"])
    elif str(source.get("kind")) in _TABLES:
        thing = Thing(_TABLES[source["kind"]])
    read = (tables_of(statement) if statement else []) or [thing]
    counts: dict[str, Any] = {"rows": result.get("rows"), "size": result.get("bytes"), "files": 1 if result else None}
    return Lineage(settings, read, written, statement=statement, **counts)


def _insight(settings: ClientSettings, number: int) -> Thing | None:
    """Return an insight by its short id, as assets name it; ``None`` if the key may not read it."""
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.retry import LAST

    with suppress(PostHogError), Client(settings) as client:
        short_id = client.send(insights.retrieve(number), policy=LAST).get("short_id")
        return Thing("insight", short_id) if short_id else None
    return None


def things_of(source: Source) -> list[Thing]:
    """Return what a source reads.

    :param source: a table of PostHog's, or a query, whose tables are found by OpenLineage's own parser.
    """
    if "posthog_cohort_id" in source.values:
        return [Thing("cohort", source.values["posthog_cohort_id"])]
    if not source.table.startswith("("):
        return [Thing(source.table)]
    return tables_of(statement_of(source)) or [Thing("query", source.name)]


def tables_of(statement: str) -> list[Thing]:
    """Return the tables that a HogQL statement reads; none if it cannot be read.

    :param statement: the statement, with placeholders.
    """
    with suppress(Exception):  # it is made for other dialects
        parse = import_module("openlineage_sql").parse
        parsed = parse([_PLACEHOLDER.sub("NULL", statement)], "clickhouse")
        return [Thing(name) for name in sorted(table.qualified_name for table in parsed.in_tables)]
    return []


def statement_of(source: Source) -> str:
    """Return the HogQL that reads a source, without values.

    :param source: the source.
    """
    if source.table.endswith(_END_OF_QUERY):
        return without_values(source.table[1:].removesuffix(_END_OF_QUERY))
    where = f" WHERE ({source.where}\n)" if source.where else ""
    columns = [name if name == hogql else f"{hogql} AS `{name}`" for name, hogql in source.columns.items()]
    return without_values(f"SELECT {', '.join(columns) or '*'} FROM {source.table}{where}")  # noqa: S608 - never sent


def without_values(hogql: str) -> str:
    """Return HogQL without its texts, which may be personal data, and without comments.

    :param hogql: a statement.
    """
    shown = []
    for token in tokens(hogql):
        if token.kind == "open" or (token.kind == "name" and not _CLOSED.fullmatch(token.text)):
            break  # nobody can tell what the rest is
        if not token.inside:
            shown.append(_HIDDEN.get(token.kind, token.text))
    return "".join(shown).strip()


def dataset_of_path(path: str | ObjectStoragePath, conn_id: str | None = None) -> Dataset:
    """Return the name of a file or folder, by OpenLineage's rules.

    :param path: where it is; a connection's id in it is left out.
    :param conn_id: Airflow's connection for the object storage, for a path that is text.
    """
    scheme, separator, rest = str(path).rpartition("://")
    scheme = _SCHEMES.get(scheme, scheme)
    if not separator or scheme in _LOCAL:
        return Dataset("file", os.path.abspath(rest))
    bucket, _, key = rest.partition("/")
    bucket = bucket.rpartition("@")[2]
    if scheme == "abfss":
        account = _account(path, conn_id)
        bucket = f"{bucket}@{account}.dfs.core.windows.net" if account else bucket
    return Dataset(f"{scheme}://{bucket}", key.strip("/") or "/")


def _account(path: str | ObjectStoragePath, conn_id: str | None) -> str | None:
    """Return the account of a container of Azure, which only the file system knows."""
    with suppress(Exception):  # without its provider, or its connection
        target = ObjectStoragePath(path, conn_id=conn_id) if isinstance(path, str) else path
        return str(target.fs.account_name)
    return None
