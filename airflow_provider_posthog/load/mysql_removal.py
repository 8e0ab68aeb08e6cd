"""Erase the rows of persons from a table of MySQL or MariaDB, in one transaction, proved by counting."""

# ruff: noqa: S608 - names are quoted, and hashes are hexadecimal digits

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.beside import Beside, Kind
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.mysql import TableOfMySQL, text_of
from airflow_provider_posthog.load.names import quote
from airflow_provider_posthog.load.removal import Criterion, Removal

#: Hashes per statement: some 70 KB, far below the smallest max_allowed_packet of a server.
_BATCH = 1_000
#: Collations that know the small letters of today's Unicode, the best first.
_FOLDING = ("utf8mb4_uca1400_as_cs", "utf8mb4_0900_as_cs", "utf8mb4_unicode_520_ci")
_COLLATIONS = (
    "SELECT collation_name FROM information_schema.collations "
    f"WHERE collation_name IN {(*_FOLDING, 'uca1400_as_cs')}"  # MariaDB leaves out the character set
)
#: Neither blanks that fill a CHAR nor other quotation marks.
_SESSION = "SET SESSION sql_mode = 'STRICT_ALL_TABLES'"
_COLUMNS = (
    "SELECT column_name, column_type FROM information_schema.columns "
    "WHERE table_name = %s AND table_schema = COALESCE(%s, DATABASE())"
)
#: A text that only the right functions make the same of here and there; ``İ``, ``ς`` as MySQL has other rules for them.
_PROBE = " \u0130O\u03a3\u03c2 "
#: The numbers of the errors that say that a table, or its database, is not there.
_NOT_THERE = {1146, 1049}


class MySQLRemoval(Removal):
    """Erases rows of MySQL or MariaDB. A column's collation has no say: all is compared as bytes of UTF-8.

    What is compared are hashes, with a new salt each time. They are short, so that they can have an index, and no log
    of statements names anybody. Counting locks the rows until the commit, so that those that are counted are deleted.

    :param connection: of a MySQL driver, in a transaction, without autocommit.
    :param table: the table, such as ``analytics.events``.
    :param placeholder: the driver's sign for a value.
    :raises PostHogSettingsError: if the table's name is none.
    """

    _most: ClassVar[int] = 2
    _mark: ClassVar[str] = "`"

    def __init__(self, connection: Any, table: str, placeholder: str = "%s") -> None:  # noqa: ANN401 - PEP 249
        super().__init__(connection, table, placeholder)
        self._salt = secrets.token_hex(16)
        self._folding = _FOLDING[-1]

    @property
    def _kind(self) -> Kind:
        return "mysql"

    def _prepare(self) -> None:
        """Refuse what cannot be undone, and wait for loads whose rows are not visible yet."""
        table = TableOfMySQL(self._rows, self._names, self._table)
        with translate_errors(self._connection, f"looking at {self._table}", "Nothing was erased."):
            table.check_session()
            table.check_erasable()
            self._check_sight()
            table.wait_for_others()
            self._execute(_SESSION)
            known = {text_of(name) for (name,) in self._rows(_COLLATIONS)}
            both = known | {f"utf8mb4_{name}" for name in known}
            self._folding = next((name for name in _FOLDING if name in both), self._folding)
            self._check_hashing()

    def _check_sight(self) -> None:
        """Refuse a user with rights on single tables: the catalogue hides the others, such as the quarantine."""
        nowhere = ".".join([*self._parts[:-1], quote(f"posthog_{self._salt}", self._mark)])
        try:
            self._rows(f"SELECT 1 FROM {nowhere}")
        except Exception as error:
            if _NOT_THERE & {*error.args[:1], getattr(error, "errno", None)}:
                return
        raise PostHogLoadError(
            f"The user may not SELECT from all tables beside {self._table}, and so does not see what loads keep there. "
            "Nothing was erased. Grant it: GRANT SELECT ON `<database>`.* TO ..."
        )

    def _check_hashing(self) -> None:
        """Let the server hash a text: if it did that in another way, nobody would be found, and "0 are left"."""
        probe = Criterion("", iter(()), any_case=True)
        text = f"_utf8mb4 X'{_PROBE.encode().hex()}'"
        ((hashed,),) = self._rows(f"SELECT HEX({self._hashed(text, probe)})")
        if hashed is None or text_of(hashed).lower() != self._hash(_PROBE.strip(), probe):
            raise PostHogLoadError("The server's functions LOWER and SHA2 are not those of MySQL. Nothing was erased.")

    def _type_of(self, criterion: Criterion) -> str:
        self._rows(f"SELECT {self._column(criterion)} FROM {self._name} WHERE 1 = 0")
        rows = self._rows(_COLUMNS, [self._names[-1], self._names[-2] if len(self._names) > 1 else None])
        name = criterion.column.lower()
        kind = next((text_of(kind) for column, kind in rows if text_of(column).lower() == name), "")
        # MariaDB's JSON is a text with a check.
        made = text_of(self._rows(f"SHOW CREATE TABLE {self._name}")[0][1]).lower()
        return "json" if f"json_valid({quote(name, self._mark)})" in made else kind.partition("(")[0]  # SET has values

    def _place(self, number: int) -> str:
        # Beside the table: the connection may have no database of its own.
        return ".".join([*self._parts[:-1], quote(super()._place(number), self._mark)])

    def _gather(self, name: str, criterion: Criterion) -> None:
        self._execute(f"CREATE TEMPORARY TABLE {name} (id BINARY(32) PRIMARY KEY) ENGINE = InnoDB")
        values = iter(criterion.values)
        while batch := [f"(X'{self._hash(value, criterion)}')" for value in islice(values, _BATCH)]:
            self._execute(f"INSERT INTO {name} (id) VALUES {', '.join(batch)} ON DUPLICATE KEY UPDATE id = id")

    def _hash(self, value: str, criterion: Criterion) -> str:
        text = self._salt + self._fit(value, criterion)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def _fit(self, value: str, criterion: Criterion) -> str:
        return value.lower().replace("\u03c2", "\u03c3") if criterion.any_case else value

    def _is_in(self, text: str, criterion: Criterion, values: str) -> str:
        return f"{self._hashed(text, criterion)} IN (SELECT id FROM {values})"

    def _hashed(self, text: str, criterion: Criterion) -> str:
        text = f"CONVERT({text} USING utf8mb4)"
        if criterion.any_case:  # as Python folds: MySQL makes an i of the one letter that becomes two, and ς of no Σ
            text = _replaced(f"TRIM({text})", "\u0130", "\u0130".lower())
            text = _replaced(f"LOWER({text} COLLATE {self._folding})", "\u03c2", "\u03c3")
        return f"UNHEX(SHA2(CONCAT('{self._salt}', {text}), 256))"

    def _text(self, criterion: Criterion) -> str:
        return self._column(criterion)

    def _count(self, condition: str, table: str = "") -> int:
        # Without a lock it would count what was there when the transaction began, and DELETE takes what is there now.
        return int(self._rows(f"SELECT count(*) FROM {table or self._name} WHERE {condition} FOR UPDATE")[0][0])

    def _empty_quarantine(self, beside: Beside, criteria: Sequence[Criterion]) -> None:
        names = [*self._names[:-1], beside.quarantine or ""]
        TableOfMySQL(self._rows, names, beside.quarantine or "").check_erasable()
        if unread := self._count("NOT JSON_VALID(data)", beside.quarantine_name):
            raise PostHogLoadError(
                f"{unread:,} rows of {beside.quarantine} are no JSON, so that nobody can tell whose they are. Nothing "
                "was erased. Correct or delete them."
            )
        super()._empty_quarantine(beside, criteria)

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._rows(statement, values)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            # Without values drivers take no % of a name for a placeholder.
            cursor.execute(statement, tuple(values)) if values else cursor.execute(statement)
            if cursor.description is None:
                return []
            return [tuple(row.values() if isinstance(row, Mapping) else row) for row in cursor.fetchall()]


def _replaced(text: str, old: str, new: str) -> str:
    """Return the expression of a text with a letter as another, told apart exactly."""
    hexadecimal = [f"_utf8mb4 X'{one.encode().hex()}'" for one in (old, new)]
    return f"REPLACE({text} COLLATE utf8mb4_bin, {', '.join(hexadecimal)})"
