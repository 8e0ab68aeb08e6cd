"""PostHogHook: from an Airflow connection to a client of PostHog's API."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from airflow_provider_posthog.api import insight_lookup, insights, queries
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings, is_secret_key
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import BaseHook, get_connection_async, mask_secret
from airflow_provider_posthog.connection import form as connection_form
from airflow_provider_posthog.exceptions import (
    TASKS_WITHOUT_PERSON,
    PostHogError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.hooks.probes import probes, secret_key_probes
from airflow_provider_posthog.results import retention
from airflow_provider_posthog.results.answer import Answer, Question, ask, read
from airflow_provider_posthog.results.byte_guard import ByteGuard, tell

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.results.retention import Retention

T = TypeVar("T")


@dataclass(frozen=True)
class _Hidden:
    """A secret that is not shown with what holds it."""

    value: str = field(default="", repr=False)


class PostHogHook(BaseHook):
    """Talks to one PostHog project over its HTTP API. Making a hook reads no connection and sends nothing.

    ``with PostHogHook() as hook:`` closes its connections at the end of the block.

    :param posthog_conn_id: the id of a connection of type ``posthog``.
    :param project_id: the project's number, in place of the connection's.
    :param max_bytes_read: how many bytes ClickHouse may read for a query of ``query``, ``get_records``, ``get_first``
        and ``get_df``: a query that read more is an error, and none starts if the project's budget has less left.
    """

    #: Bytes that ClickHouse read for the last query of this hook; ``None`` if the server did not say.
    bytes_read: int | None = None

    conn_name_attr = "posthog_conn_id"
    default_conn_name = connection_form.DEFAULT_CONN_ID
    conn_type = connection_form.CONN_TYPE
    hook_name = connection_form.HOOK_NAME

    def __init__(
        self,
        posthog_conn_id: str = default_conn_name,
        project_id: int | str | None = None,
        *,
        max_bytes_read: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.max_bytes_read = max_bytes_read
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self._settings: ClientSettings | None = None
        self._audit_secret = _Hidden()
        self._client: Client | None = None
        self._reading = threading.Lock()
        #: How often the connection's key was replaced while it was in use.
        self.keys_replaced = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return what is written down of a hook: nothing of the connection, which is read again where it is used."""
        kept = {name: value for name, value in self.__dict__.items() if name != "_reading"}
        return {**kept, "_settings": None, "_audit_secret": _Hidden(), "_client": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what :meth:`__getstate__` has written down."""
        self.__dict__.update(state, _reading=threading.Lock())

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow 2.11 to 3.1."""
        return connection_form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form does with the standard fields, for Airflow 2.11 to 3.1."""
        return connection_form.python_ui_field_behaviour()

    def settings(self) -> ClientSettings:
        """Read the connection, once.

        :raises PostHogSettingsError: if a field cannot be used.
        """
        if self._settings is None:
            self._settings = self._parse(self.get_connection(self.posthog_conn_id))
        return self._settings

    def _replaced(self, refused: ClientSettings) -> ClientSettings:
        """Read the connection again, once for all clients that were made with a key that PostHog refuses now.

        :param refused: with what PostHog was asked.
        """
        with self._reading:
            if self._settings is None or self._settings.api_key == refused.api_key:
                settings = self._parse(self.get_connection(self.posthog_conn_id))
                self.keys_replaced += settings.api_key != refused.api_key
                self._settings = settings
            return self._settings

    def _parse(self, connection: Any) -> ClientSettings:  # noqa: ANN401 - models.Connection or the SDK's
        # A password from a URI in the environment is not masked by Airflow 3's task SDK (apache/airflow#38144).
        if connection.password:
            mask_secret(connection.password)
            mask_secret(connection.password.strip())
        self._audit_secret = _Hidden(connection_form.find_audit_secret(connection))
        if self._audit_secret.value:  # Airflow masks it in the extras, and not where it stands alone
            mask_secret(self._audit_secret.value)
        settings = connection_form.parse(connection, project_id=self.project_id)
        settings = replace(settings, read_again=self._replaced)
        if settings.project_token:
            mask_secret(settings.project_token)
        proxy_password = urlsplit(settings.proxy or "").password
        if proxy_password:
            mask_secret(proxy_password)
            mask_secret(unquote(proxy_password))
        return settings

    def audit_secret(self) -> str:
        """Return the salt of erasure certificates: the connection's extra ``audit_secret``.

        :raises PostHogSettingsError: if it is not set or can be guessed, with how to make one; it is never shown.
        """
        key = self.settings().api_key  # reads the connection
        return connection_form.read_audit_secret(self._audit_secret.value, key)

    def get_conn(self) -> Client:
        """Return the blocking client."""
        if self._client is None:
            self._client = Client(self.settings())
        return self._client

    @property
    def client(self) -> Client:
        """The blocking client, made on first use."""
        return self.get_conn()

    def __enter__(self) -> Self:
        """Return the hook."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the blocking client's connections."""
        self.close()

    def close(self) -> None:
        """Close the blocking client's connections; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def async_client(self) -> AsyncClient:
        """Make an asynchronous client, without blocking the event loop. Close it, or use it in an ``async with``.

        :raises PostHogSettingsError: if a field of the connection cannot be used.
        """
        # In a thread, as its first import takes tenths of a second, in which no other trigger would run.
        clients = await asyncio.to_thread(importlib.import_module, "airflow_provider_posthog.api.async_clients")
        if self._settings is None:
            self._settings = await self._read_again()
        client: AsyncClient = clients.AsyncClient(self._settings, self._read_again)
        return client

    async def _read_again(self) -> ClientSettings:
        connection = await get_connection_async(self.posthog_conn_id)
        # In a thread: masking, and reading the extra, wait for Airflow's supervisor.
        return await asyncio.to_thread(self._parse, connection)

    def send(self, call: Call[T]) -> T:
        """Send a call with the blocking client.

        :param call: made by a function of :mod:`airflow_provider_posthog.api`.
        :raises PostHogError: if there is no good answer.
        """
        return self.client.send(call)

    def pages(self, call: Call[Any], max_items: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page, each once, whatever is deleted meanwhile.

        :param call: the call of the first page, such as ``persons.list(limit=1000)``.
        :param max_items: how many items at the most.
        :raises PostHogSettingsError: if the call is not a list.
        :raises PostHogError: if a page cannot be had, or the list does not end.
        """
        return self.client.pages(call, max_items=max_items)

    def get_records(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, max_bytes_read: int | None = None
    ) -> list[list[Any]]:
        """Run HogQL and return all of its rows, freshly calculated.

        :param sql: the statement, with ``{name}`` for each value. Without a LIMIT PostHog would cut it at 100 rows;
            several SELECTs (UNION and the like) go into brackets: ``SELECT * FROM (...) LIMIT n``.
        :param parameters: the values.
        :param max_bytes_read: how many bytes ClickHouse may read for it, in place of the hook's.
        :returns: the rows, in the statement's order; times are ISO text with the project's offset.
        :raises PostHogIncompleteError: if PostHog cut the rows (100 without LIMIT, 50,000 with).
        :raises PostHogSettingsError: if it is not a single statement, or PostHog could cut it unseen (nothing is sent);
            or if the query read more than it may.
        :raises PostHogRateLimitError: if less is left of the budget than it may read; nothing is sent.
        """
        rows: list[list[Any]] = self._asked(sql, parameters, max_bytes_read).whole().rows
        return rows

    def get_df(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: str | Sequence[str] | None = None,
        df_type: str = "pandas",
        max_bytes_read: int | None = None,
    ) -> Any:  # noqa: ANN401 - a frame of pandas or polars
        """Run HogQL and return all of its rows as a data frame, freshly calculated.

        Columns have the types that PostHog names, with and without rows: integers are ``Int64`` and never went through
        a float, times are UTC, and nulls are nulls (:func:`~airflow_provider_posthog.hooks.data_frames.data_frame`).

        :param sql: the statement, as for :meth:`get_records`.
        :param parameters: the values.
        :param key: what tells the rows apart, such as ``uuid``, or several: with it there may be more than 50,000,
            which are read in parts and counted (docs: *files.md*, *Rows by queries*), and arrays are JSON text.
        :param df_type: ``pandas``, or ``polars``.
        :param max_bytes_read: how many bytes ClickHouse may read for it, in place of the hook's; neither with ``key``.
        :raises PostHogIncompleteError: if PostHog cut the rows (100 without LIMIT, 50,000 with).
        :raises PostHogSettingsError: if pandas or polars is not installed, or the query read more than it may.
        """
        self._check_frame(df_type, key, self.max_bytes_read if max_bytes_read is None else max_bytes_read)
        from airflow_provider_posthog.hooks.data_frames import data_frame, polars_frame, read_by_key

        if key is not None:
            return read_by_key(self.settings(), sql, parameters, key, df_type)
        answer = self._asked(sql, parameters, max_bytes_read).whole()
        make = data_frame if df_type == "pandas" else polars_frame
        return make(answer.rows, answer.names(), answer.types)

    @staticmethod
    def _check_frame(df_type: str, key: object, max_bytes_read: int | None) -> None:
        if df_type not in ("pandas", "polars"):
            raise PostHogSettingsError("df_type", f"{df_type!r:.40} is not known.", "Write 'pandas' or 'polars'.")
        if key is not None and max_bytes_read is not None:
            raise PostHogSettingsError(
                "max_bytes_read", "is not for rows that are read in parts by key.", "Leave one of them out."
            )
        needed = {df_type, "pyarrow"} if df_type == "polars" or key is not None else {df_type}
        for package in sorted(needed):
            if importlib.util.find_spec(package) is None:
                extra = {"pyarrow": "warehouse"}.get(package, package)
                what = f"airflow-provider-posthog[{extra}]"
                raise PostHogSettingsError("get_df", f"needs {package}.", f"Install {what}, or use query().")

    def query(
        self, query: str, values: Mapping[str, Any] | None = None, *, max_bytes_read: int | None = None
    ) -> list[dict[str, Any]]:
        """Run HogQL and return all of its rows as dictionaries, freshly calculated; for the author of a ``@task``.

        :param query: the statement, with ``{name}`` for each value; as for :meth:`get_records`.
        :param values: the values.
        :param max_bytes_read: how many bytes ClickHouse may read for it, in place of the hook's.
        :returns: a dictionary for each row, by the names of its columns; JSON, with times as ISO text.
        :raises PostHogIncompleteError: if PostHog cut the rows (100 without LIMIT, 50,000 with).
        :raises PostHogSettingsError: if two columns have one name, or the query read more than it may.
        """
        answer = self._asked(query, values, max_bytes_read, field="query").whole()
        columns = answer.names()
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            raise PostHogSettingsError(
                "query", f"two columns are named {twice[0]!r}.", "Give each a name of its own, with AS."
            )
        return [dict(zip(columns, row, strict=True)) for row in answer.rows]

    def _asked(
        self, sql: str, values: Mapping[str, Any] | None, max_bytes_read: int | None = None, *, field: str = "sql"
    ) -> Answer:
        """Run HogQL; return the answer, which may be cut."""
        question, values = self._question(sql, values, field)
        guard = ByteGuard.of(self.max_bytes_read if max_bytes_read is None else max_bytes_read)
        guard.before(self.client)
        metered = self.send(queries.metered(queries.start(queries.hogql(question.sql, values))))
        self.bytes_read = metered.bytes_read
        tell(self.client, metered.bytes_read)
        answer = read(metered.value, question)
        guard.after(metered.bytes_read)
        return answer

    def _question(
        self, sql: str, values: Mapping[str, Any] | None, field: str
    ) -> tuple[Question, Mapping[str, Any] | None]:
        """Check a statement, and return it with the values that it is sent with."""
        return ask(sql, values, field=field), values

    def get_first(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, max_bytes_read: int | None = None
    ) -> list[Any] | None:
        """Run HogQL and return its first row, freshly calculated, or ``None``.

        :param sql: the statement; several SELECTs (UNION and the like) as for :meth:`get_records`.
        :param parameters: the values.
        :param max_bytes_read: how many bytes ClickHouse may read for it, in place of the hook's.
        """
        rows: list[list[Any]] = self._asked(sql, parameters, max_bytes_read).rows
        return rows[0] if rows else None

    def find_insight(self, insight: int | str | Mapping[str, Any]) -> insights.Insight:
        """Find a saved insight.

        :param insight: its numeric id or its short id, or a task's result: a mapping with its ``id``.
        :raises PostHogSettingsError: if the project has no such insight that the key may see.
        """
        return run(insight_lookup.find(insight), self.client)

    def events_retention(self) -> Retention:
        """Ask how long PostHog shows the project's events; needs ``project:read``, else it is not known.

        ``query``, ``get_records`` and ``get_df`` do not ask: where the retention is enforced, older events are not in
        their answers.
        """
        settings = self.settings()
        settings.project_path()  # says how to write the project's number
        return run(retention.look(settings.project_id or 0), self.client)

    def test_connection(self) -> tuple[bool, str]:
        """Reach the project, and name the scopes that the key lacks. Never raises and never shows the key."""
        try:
            return self._test_connection()
        except Exception as error:
            # The Test button shows this text; an exception there would show a traceback or nothing at all.
            why = str(error) if isinstance(error, PostHogError) else type(error).__name__
            self.log.warning("The test of connection %s failed: %s", self.posthog_conn_id, why)
            return False, why if isinstance(error, PostHogError) else f"{why} (see the log)"

    def _test_connection(self) -> tuple[bool, str]:
        settings = self.settings()
        if settings.project_id is None:
            settings.project_path()
        if is_secret_key(settings.api_key):
            missing, _ = self._missing(secret_key_probes())
            if len(missing) == 2:
                return False, f"The project secret key may do nothing: it lacks {', '.join(missing)}."
            name = f" with a project secret key, which can serve {TASKS_WITHOUT_PERSON}"
        else:
            missing, name = self._missing(probes(settings.project_id or 0))
        reached = f"Reached project {settings.project_id}{name} on {settings.base_url}."
        if not missing:
            return True, f"{reached} The key has all scopes that this test can check."
        return True, f"{reached} The key lacks: {', '.join(missing)}. Tasks that need them will fail."

    def _missing(self, calls: Iterable[tuple[str, Call[Any]]]) -> tuple[list[str], str]:
        """Return the scopes that the key lacks, and the project's name, with a blank before it, if it may be read."""
        missing: list[str] = []
        name = ""
        for scope, call in calls:
            try:
                answer = self.send(call)
            except PostHogPermissionError as error:
                if error.scope is None:
                    raise  # not a scope: the key may not use this project at all
                missing.append(error.scope)
                continue
            except PostHogValidationError:
                continue  # an export of nothing is refused only after the scope was looked at
            except PostHogNotFoundError:
                if scope == "project:read":
                    raise
                continue  # a server that has no such endpoint has no such scope to lack
            if scope == "project:read":
                name = f" {answer.get('name')!r}"
        return missing, name
