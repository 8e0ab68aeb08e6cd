"""PostHogSqlHook: what Airflow's own SQL operators and sensors (``common.sql``) read PostHog with.

A module of its own, because ``common.sql`` brings SQLAlchemy and a parser: operators and triggers use
:mod:`airflow_provider_posthog.hooks.posthog`, which does without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.hogql import statements
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.results.answer import Question, ask
from airflow_provider_posthog.results.cursor import READS_ONLY, PostHogConnection, one_select, values_of

_ELSEWHERE = "To send events, use PostHog's SDKs; to copy rows out, the operators of this provider."


class PostHogSqlHook(PostHogHook, DbApiHook):  # type: ignore[misc] # DbApiHook's test_connection has no types
    """PostHogHook as a ``DbApiHook``: HogQL is its SQL, and it only reads.

    What ``connection.get_hook()`` returns for a connection of type ``posthog``, so that SQLCheckOperator,
    SQLColumnCheckOperator, SQLTableCheckOperator, SQLThresholdCheckOperator, SQLValueCheckOperator,
    SQLIntervalCheckOperator, BranchSQLOperator, SQLExecuteQueryOperator and SqlSensor work on PostHog.

    Rows are tuples in the values of PostHog's JSON, always freshly calculated. ``run`` and ``get_conn`` are those of
    Airflow's ``DbApiHook``; :meth:`query` returns rows as dictionaries.

    :param posthog_conn_id: the id of a connection of type ``posthog``.
    :param project_id: the project's number, in place of the connection's.
    :param log_sql: log each statement that ``run`` runs. Its values are never logged.
    :param max_bytes_read: as :class:`~airflow_provider_posthog.hooks.posthog.PostHogHook`; Airflow's operators take it
        as ``hook_params={"max_bytes_read": ...}``.
    :param extras: fields of the connection's extra, in place of the connection's own, such as ``read_timeout=600``;
        Airflow's operators pass on the connection's extra and their ``hook_params``.
    """

    strip_semicolon = True

    def __init__(
        self,
        posthog_conn_id: str = PostHogHook.default_conn_name,
        project_id: int | str | None = None,
        *,
        log_sql: bool = True,
        max_bytes_read: int | None = None,
        **extras: object,
    ) -> None:
        # An extra may be unset in more ways than an argument.
        unset = isinstance(project_id, str) and project_id.strip() in ("", "null")
        super().__init__(posthog_conn_id, None if unset else project_id, max_bytes_read=max_bytes_read)
        self.log_sql = log_sql
        self._extras = extras

    # Airflow 2.11 to 3.1 take the form from the class itself and not from those that it inherits from.
    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow 2.11 to 3.1."""
        return super().get_connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form does with the standard fields, for Airflow 2.11 to 3.1."""
        return super().get_ui_field_behaviour()

    def _parse(self, connection: Any) -> Any:  # noqa: ANN401 - as PostHogHook's
        return super()._parse(_WithExtras(connection, self._extras) if self._extras else connection)

    @property
    def schema(self) -> str | None:
        """The project: what the operators' ``database`` means here."""
        return None if self.project_id is None else str(self.project_id)

    @schema.setter
    def schema(self, project_id: int | str | None) -> None:
        self.close()
        self.project_id = project_id
        self._settings = None

    @property
    def client(self) -> Client:
        """The blocking client, made on first use."""
        return PostHogHook.get_conn(self)

    def get_conn(self) -> PostHogConnection:  # type: ignore[override]
        """Return a connection of PEP 249; calls of PostHog's API go through :attr:`client` and :meth:`send`."""
        return PostHogConnection(self._asked)

    def _question(
        self, sql: str, values: Mapping[str, Any] | None, field: str
    ) -> tuple[Question, Mapping[str, Any] | None]:
        given = values_of(values)
        return ask(one_select(sql, field), given, field=field), given

    @staticmethod
    def split_sql_string(sql: str, strip_semicolon: bool = False) -> list[str]:
        """Split SQL into statements as HogQL reads it; Airflow's splitter misses a backslash at the end of a text.

        :param sql: any number of statements.
        :param strip_semicolon: not used: PostHog takes no semicolons.
        """
        return statements(sql)

    def _run_command(self, cur: Any, sql_statement: str, parameters: object) -> None:  # noqa: ANN401 - as Airflow's
        # Airflow would log the values, and hand them to lineage listeners: they may be e-mail addresses.
        cur.bind(parameters)
        if self.log_sql and isinstance(parameters, Mapping):
            self.log.info("With values for %s", ", ".join(map(str, parameters)))
        super()._run_command(cur, sql_statement, None)

    def run(
        self,
        sql: Any,  # noqa: ANN401 - as Airflow's
        autocommit: bool = False,
        parameters: Any = None,  # noqa: ANN401
        handler: Any = None,  # noqa: ANN401
        split_statements: bool = False,
        return_last: bool = True,
    ) -> Any:  # noqa: ANN401
        """Run one or more statements, as ``DbApiHook.run`` does.

        :param sql: a statement, or a list of them.
        :param autocommit: not used: HogQL only reads.
        :param parameters: the values of ``{name}``, by name; the same for each statement.
        :param handler: makes the result of a cursor; without one there is no result.
        :param split_statements: whether ``sql`` may hold several statements.
        :param return_last: whether to return the last one's result only.
        :returns: what ``handler`` made of the statement, or a list of that for each one.
        :raises PostHogIncompleteError: if the handler wants rows that PostHog cut off.
        """
        if isinstance(autocommit, Mapping):
            raise PostHogSettingsError(
                "run",
                "takes no values as its second argument on this hook.",
                "Write get_records(sql, parameters), or query(query, values), which returns dictionaries.",
            )
        return DbApiHook.run(self, sql, autocommit, parameters, handler, split_statements, return_last)

    def get_records(  # type: ignore[override]
        self,
        sql: Any,  # noqa: ANN401 - as Airflow's
        parameters: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Return all rows of a statement, or a list of those of each of several.

        :param sql: the statement, with ``{name}`` for each value, or a list of them.
        :param parameters: the values.
        :returns: rows as tuples.
        :raises PostHogIncompleteError: if PostHog cut the rows (100 without LIMIT, 50,000 with).
        """
        return DbApiHook.get_records(self, sql, parameters)

    def get_first(  # type: ignore[override]
        self,
        sql: Any,  # noqa: ANN401 - as Airflow's
        parameters: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Return the first row of a statement as a tuple, or ``None``; or a list of that for each of several.

        :param sql: the statement, with ``{name}`` for each value, or a list of them.
        :param parameters: the values.
        """
        return DbApiHook.get_first(self, sql, parameters)

    def get_df(  # type: ignore[override]
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        df_type: str = "pandas",
        key: str | Sequence[str] | None = None,
    ) -> Any:  # noqa: ANN401 - a frame of pandas or polars
        """Return all rows of a statement as a data frame with PostHog's types, as :meth:`PostHogHook.get_df`.

        :param sql: the statement, with ``{name}`` for each value.
        :param parameters: the values.
        :param df_type: ``pandas``, or ``polars``.
        :param key: what tells the rows apart; with it there may be more than 50,000.
        :raises PostHogIncompleteError: if PostHog cut the rows (100 without LIMIT, 50,000 with).
        :raises PostHogSettingsError: for another ``df_type``, or if pandas or polars is not installed.
        """
        if key is not None:  # not asked by _question, which reads them so
            sql, parameters = one_select(sql), values_of(parameters)
        return PostHogHook.get_df(self, sql, parameters, key=key, df_type=df_type)

    def get_df_by_chunks(  # type: ignore[override]
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, chunksize: int, df_type: str = "pandas"
    ) -> Iterator[Any]:
        """Yield the rows of a statement in data frames of one size; PostHog sends them all at once nevertheless.

        :param sql: the statement, with ``{name}`` for each value.
        :param parameters: the values.
        :param chunksize: how many rows each has, but for the last one.
        :param df_type: ``pandas``, or ``polars``.
        :raises PostHogSettingsError: as :meth:`get_df`; and if ``chunksize`` is not a number of rows.
        """
        if isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1:
            raise PostHogSettingsError(
                "chunksize", f"is {chunksize!r:.40}, which is not a number of rows.", "Write 1 or more."
            )
        return self._chunks(sql, parameters, chunksize, df_type)

    def _chunks(self, sql: str, parameters: Mapping[str, Any] | None, chunksize: int, df_type: str) -> Iterator[Any]:
        frame = self.get_df(sql, parameters, df_type=df_type)
        for start in range(0, len(frame), chunksize):
            if df_type == "polars":
                yield frame[start : start + chunksize]
            else:
                yield frame.iloc[start : start + chunksize].reset_index(drop=True)

    def insert_rows(self, table: Any, rows: Any, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - as Airflow's
        """Refuse.

        :raises PostHogSettingsError: always, before anything is sent.
        """
        raise PostHogSettingsError("insert_rows", READS_ONLY, _ELSEWHERE)

    def bulk_load(self, table: Any, tmp_file: Any) -> NoReturn:  # noqa: ANN401 - as Airflow's
        """Refuse.

        :raises PostHogSettingsError: always, before anything is sent.
        """
        raise PostHogSettingsError("bulk_load", READS_ONLY, _ELSEWHERE)

    def bulk_dump(self, table: Any, tmp_file: Any) -> NoReturn:  # noqa: ANN401 - as Airflow's
        """Refuse: PostHog dumps tables by exports.

        :raises PostHogSettingsError: always, before anything is sent.
        """
        raise PostHogSettingsError("bulk_dump", "PostHog writes no files here.", _ELSEWHERE)

    def get_sqlalchemy_engine(self, engine_kwargs: Any = None) -> NoReturn:  # noqa: ANN401 - as Airflow's
        """Refuse.

        :raises PostHogSettingsError: always; Airflow's own way would write the key into its debug log first.
        """
        raise PostHogSettingsError(
            "get_sqlalchemy_engine",
            "HogQL only reads, and SQLAlchemy has no dialect for it.",
            f"To read, use get_records() or get_df(). {_ELSEWHERE}",
        )


class _WithExtras:
    """A connection some of whose extras a task gave in place of the connection's own."""

    def __init__(self, connection: Any, extras: Mapping[str, object]) -> None:  # noqa: ANN401
        self._connection = connection
        own = connection.extra_dejson
        self.extra_dejson: object = {**own, **extras} if isinstance(own, Mapping) else own

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._connection, name)
