"""How a task's rows get into a table: from its arguments to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol, get_args

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load import own_columns
from airflow_provider_posthog.load.target import OtherColumns, Target, WriteDisposition, check_deleted, check_policy
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.storage.manifest import iso
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from airflow_provider_posthog.tasks.lists import check_choice
from airflow_provider_posthog.tasks.replacing import COMPARES, Replaces, covered, mode_of
from airflow_provider_posthog.tasks.verifying import windows_before

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.windows import Window
    from airflow_provider_posthog.load.target import Deleted, Loaded, SchemaPolicy

#: A property, of which PostHog may know a type.
_PROPERTY = pattern(r"(?P<of>(?:person\.)?)properties\.(?:(?P<plain>[A-Za-z_$][\w$]*)|`(?P<quoted>[^`\\]+)`)")
#: The length of a text, and the longest for which a column of it is made: a row of MySQL has 65,535 bytes.
_LENGTH = pattern(r"\((\d{1,6})\)")
_MOST_LETTERS = 4_000
#: What databases call the types that not all of them have, by the connection's type.
_NATIVE: Mapping[str, Mapping[str, str]] = {
    "postgres": {"uuid": "uuid", "json": "jsonb", "boolean": "boolean"},
    "duckdb": {"uuid": "UUID", "json": "JSON", "boolean": "BOOLEAN"},
    "motherduck": {"uuid": "UUID", "json": "JSON", "boolean": "BOOLEAN"},
}


class LoadTask(Protocol):
    """The arguments of a task that loads rows into a table."""

    task_id: str
    table: str
    write_disposition: WriteDisposition | None
    replaces: Replaces
    deleted: Deleted | None
    events: Any
    time_column: str | None
    columns: Any
    column_types: Mapping[str, str] | None
    other_columns: OtherColumns
    load_columns: bool | Sequence[str]
    schema_policy: SchemaPolicy | None
    max_rejects: int | None
    max_shrink: float | str
    allow_shrink: bool | str
    scan_back: Any
    verify_back: Any

    def key_of(self, source: Source) -> tuple[str, ...]:
        """Return the columns that tell rows apart.

        :param source: what is read.
        """
        ...


def check_arguments(task: LoadTask) -> None:
    """Refuse what can be refused before a task runs.

    :param task: the task.
    :raises PostHogSettingsError: if arguments are not known, or do not go together.
    """
    if task.write_disposition is not None:
        check_choice("write_disposition", task.write_disposition, get_args(WriteDisposition))
    check_choice("replaces", task.replaces, get_args(Replaces))
    check_choice("other_columns", task.other_columns, get_args(OtherColumns))
    if task.deleted is not None:
        check_deleted(task.deleted, task.write_disposition or "merge")
        if task.events is not None or task.time_column:
            raise PostHogSettingsError(
                "deleted",
                f"{task.deleted!r} is for what is read as a whole, not for events or an interval.",
                "Leave it out, or leave events and time_column out.",
            )
    own_columns.chosen(task.load_columns)
    check_policy(task.schema_policy, task.max_rejects)
    if task.schema_policy == "quarantine" and task.verify_back:
        raise PostHogSettingsError(
            "schema_policy",
            "'quarantine' leaves rows out, which verify_back would read again for ever.",
            "Leave one of them out.",
        )
    typed(task.columns)


def target_of(
    task: LoadTask,
    source: Source,
    window: Window,
    since: datetime | None,
    context: Mapping[str, Any],
) -> Target:
    """Return where a task's rows go, and how.

    :param task: the task.
    :param source: what is read.
    :param window: of which time; of a source without one, whatever it says.
    :param since: from when its rows are new.
    :raises PostHogSettingsError: if its arguments do not go together.
    """
    write_disposition = mode_of(task.write_disposition, source, task.deleted)
    types = _column_types(task)
    deleted: Deleted = task.deleted or ("mark" if write_disposition == "scd2" else "keep")
    only, whole = _rows_of_task(task, source, write_disposition, deleted)
    target = Target(
        task.table,
        write_disposition,
        key=task.key_of(source),
        by=source.time,
        start=window.start,
        end=window.end,
        since=since,
        only=only,
        guard=ShrinkGuard.of(task.max_shrink, task.allow_shrink),
        column_types=types,
        other_columns=task.other_columns,
        deleted=deleted,
        whole=whole,
        stamps=_stamps(task, window if source.time else None, context),
        **_policy(task, context),
    )
    _check_selected(target, source)
    return target


def _column_types(task: LoadTask) -> dict[str, str]:
    if task.column_types is not None and not isinstance(task.column_types, Mapping):
        raise PostHogSettingsError("column_types", "is not a mapping.", "Write a dictionary: {'name': 'jsonb'}.")
    return dict(task.column_types or {})


def _policy(task: LoadTask, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what becomes of what does not fit."""
    return {
        "schema_policy": task.schema_policy,
        "casts": typed(task.columns),
        "max_rejects": task.max_rejects,
        "label": _label(task, context),
        "run": _run_of(context),
    }


def _check_selected(target: Target, source: Source) -> None:
    """Refuse not to load a column by which rows are found."""
    needed = {"time_column": (source.time,) if source.time else ()} if target.replaces else {"key": target.key}
    for argument, names in needed.items():
        for name in names:
            if source.columns and name not in source.columns:
                raise PostHogSettingsError(
                    argument, f"{name!r} is none of the columns: {', '.join(source.columns)}.", "Select it, too."
                )


def of_interval(target: Target, window: Window) -> Target:
    """Return a target for another interval.

    :param target: the task's.
    :param window: the interval.
    """
    edges = {own_columns.INTERVAL_START: window.start, own_columns.INTERVAL_END: window.end}
    stamps = {name: edges.get(name, value) for name, value in target.stamps.items()}
    return replace(target, start=window.start, end=window.end, since=None, stamps=stamps)


def typed(columns: object) -> dict[str, tuple[str, bool]]:
    """Return the types of the columns that have one, each with whether its text is JSON.

    :param columns: the task's: HogQL, or HogQL and a type, by name.
    :raises PostHogSettingsError: if a type is not known.
    """
    from airflow_provider_posthog.load.typed import kind_of

    types: dict[str, tuple[str, bool]] = {}
    for name, value in columns.items() if isinstance(columns, Mapping) else ():
        if isinstance(value, str) or hasattr(value, "resolve"):  # the result of another task is not there yet
            continue
        pair = tuple(value) if isinstance(value, tuple | list) else ()
        if len(pair) != 2 or not all(isinstance(part, str) and part.strip() for part in pair):
            raise PostHogSettingsError(
                "columns",
                f"{str(name)!r:.60} is neither HogQL nor HogQL and a type.",
                'Write "properties.price", or ("properties.price", "decimal(12,2)").',
            )
        if kind_of(pair[1]) is None:
            raise PostHogSettingsError(
                "columns",
                f"{str(name)!r:.60} has a type that values cannot be read as.",
                "Write one such as 'decimal(12,2)', 'bigint', 'boolean', 'date', 'timestamp', 'uuid' or 'jsonb'.",
            )
        types[str(name)] = (pair[1], _PROPERTY.fullmatch(pair[0].strip()) is not None)
    return types


def selected(columns: Any) -> Any:  # noqa: ANN401 - whatever the task says
    """Return columns as they are selected: of a property with a type, its JSON.

    PostHog makes a value of the type that it believes a property to have, and nothing of those that do not fit.

    :param columns: the task's.
    """
    if not isinstance(columns, Mapping):
        return columns
    return {
        name: value if isinstance(value, str) else _json_of(str(value[0]).strip()) for name, value in columns.items()
    }


def _json_of(expression: str) -> str:
    match = _PROPERTY.fullmatch(expression)
    if match is None:
        return expression
    name = (match["plain"] or match["quoted"]).replace("'", "\\'")
    return f"JSONExtractRaw({match['of']}properties, '{name}')"


def native_types(source: Source, database: str) -> dict[str, str]:
    """Return the types that a database has for what PostHog's columns hold, beyond those of all databases.

    :param source: what is read.
    :param database: the connection's type.
    """
    types = _NATIVE.get(database, {})
    if source.is_query or not types:
        return {}
    kinds = {"uuid": "uuid", "person_id": "uuid", "properties": "json", "is_identified": "boolean"}
    if source.table == "persons":
        kinds["id"] = "uuid"
    return {name: types[kinds[column]] for name, column in source.columns.items() if column in kinds}


def with_types(target: Target, source: Source, database: str, *, native: bool) -> Target:
    """Return a target with the types of columns that are made.

    :param target: the task's.
    :param source: what is read.
    :param database: the connection's type.
    :param native: whether to make columns of types that not all databases have.
    """
    types = native_types(source, database) if native else {}
    located_by = {*target.key, target.by, *target.only}
    for name, (sql_type, _) in target.casts.items():
        made = _made_type(sql_type, database)
        # Texts by which rows are found have a type and a collation of their own in some databases.
        if made is not None and not (name in located_by and made.startswith("VARCHAR")):
            types[name] = made
    return replace(target, column_types={**types, **target.column_types})


def _made_type(sql_type: str, database: str) -> str | None:
    """Return the type of a column that is made for a typed one; ``None`` for the one of all such values."""
    from airflow_provider_posthog.load.columns import sql_family
    from airflow_provider_posthog.load.typed import bits_of

    text = sql_type.strip().lower()
    short, size = text.partition("(")[0].strip(), _LENGTH.search(text)
    if short in ("uuid", "json", "jsonb"):
        return _NATIVE[database]["uuid" if short == "uuid" else "json"] if database in _NATIVE else None
    family = sql_family(text)
    if family == "decimal" and "(" in text:
        return sql_type
    if family == "integer" and "unsigned" not in text and not text.startswith("u"):
        return {16: "SMALLINT", 32: "INTEGER"}.get(bits_of(text))
    if family == "text" and size and 0 < int(size[1]) <= _MOST_LETTERS:
        return f"VARCHAR({int(size[1])})" + (" CHARACTER SET utf8mb4" if database == "mysql" else "")
    return None


def _label(task: LoadTask, context: Mapping[str, Any]) -> str:
    at = getattr(context.get("ti"), "map_index", -1)
    dag = getattr(context.get("ti"), "dag_id", None) or getattr(task, "dag_id", "")
    return f"{dag}.{task.task_id}" + (f"[{at}]" if at not in (None, -1) else "")


def _run_of(context: Mapping[str, Any]) -> str:
    return str(context.get("run_id") or getattr(context.get("ti"), "run_id", None) or "")


def _rows_of_task(
    task: LoadTask, source: Source, write_disposition: str, deleted: str
) -> tuple[Mapping[str, tuple[str, ...] | tuple[int, ...]], bool]:
    """Return the values that tell which rows of the table are this task's, and whether all of these are read."""
    if write_disposition not in COMPARES:
        return covered(source, write_disposition, task.replaces), False
    if deleted != "keep":
        return covered(source, "replace", task.replaces), True
    covered(source, write_disposition, task.replaces)  # refuses what is not for it
    try:
        return covered(source, "replace", "own"), source.time is None
    except PostHogSettingsError:  # nobody knows which rows of the table it reads, so none of them is gone
        return {}, False


def _stamps(task: LoadTask, window: Window | None, context: Mapping[str, Any]) -> Mapping[str, datetime | str | None]:
    values: dict[str, datetime | str | None] = {
        own_columns.LOADED_AT: datetime.now(timezone.utc),
        own_columns.INTERVAL_START: window.start if window else None,
        own_columns.INTERVAL_END: window.end if window else None,
        own_columns.RUN: _run_of(context),
    }
    return {name: values[name] for name in own_columns.chosen(task.load_columns)}


def counts_of(loaded: Loaded) -> dict[str, Any]:
    """Return what a load did, as a task returns it.

    :param loaded: what the loader said.
    """
    names = ("rows", "deleted", "inserted", "changed", "unchanged", "gone", "rejected")
    return {**{name: getattr(loaded, name) for name in names}, "misfits": dict(loaded.misfits)}


def edges_of(window: Window | None) -> dict[str, str | None]:
    """Return the interval that was read, as a task returns it.

    :param window: the interval; ``None`` for what has none.
    """
    return {"start": iso(window.start) if window else None, "end": iso(window.end) if window else None}


def earlier_windows(
    task: LoadTask, target: Target, start: datetime | None, end: datetime | None, look_back: timedelta
) -> list[Window]:
    """Return the earlier intervals that are counted again.

    :param task: the task.
    :param target: where its rows go.
    :param start: its interval's start.
    :param end: its interval's end.
    :param look_back: what is read again anyway.
    :raises PostHogSettingsError: if it cannot be known what they should hold.
    """
    if not task.verify_back or start is None or end is None:
        return []
    if target.write_disposition != "replace_interval":
        raise PostHogSettingsError(
            "verify_back",
            f"is not for write_disposition={target.write_disposition!r}.",
            "Leave it out, or write look_back, which reads earlier intervals again.",
        )
    if task.scan_back is not None:  # which rows an earlier load has left out depends on when it began
        raise PostHogSettingsError(
            "verify_back",
            "cannot count what was loaded with scan_back.",
            "Write look_back, which reads earlier intervals again, or leave one of them out.",
        )
    return windows_before(start, end, look_back, task.verify_back)
