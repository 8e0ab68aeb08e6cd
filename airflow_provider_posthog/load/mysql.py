"""Check MySQL and MariaDB tables before rows are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.columns import family_of

if TYPE_CHECKING:
    import pyarrow as pa

_ENGINE = """
SELECT t.table_type, coalesce(t.engine, ''), coalesce(e.transactions, 'NO') FROM information_schema.tables t
LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_name = %s AND t.table_schema = coalesce(%s, database())
"""
#: Binary collations, the best first: the last one treats "a" and "a " as equal.
_COLLATIONS = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin")
_COLLATION = f"SELECT collation_name FROM information_schema.collations WHERE collation_name IN {_COLLATIONS}"  # noqa: S608
#: The longest wait for other loads of the table, in seconds.
_PATIENCE = 3600
#: The most bytes of an InnoDB index, of a character in it, and of a column in it that is not text.
_INDEX, _CHARACTER, _OTHER = 3072, 4, 32


class TableOfMySQL:
    """A table as MySQL describes it.

    :param rows_of: asks the database.
    :param parts: the parts of the table's name.
    """

    def __init__(
        self, rows_of: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]], parts: Sequence[str], name: str
    ) -> None:
        self._rows_of = rows_of
        self._at = [parts[-1], parts[-2] if len(parts) > 1 else None]
        self._name = name

    def check_session(self) -> None:
        """Check that autocommit is off: a proxy may keep it on.

        :raises PostHogSettingsError: if it is.
        """
        if int(self._rows_of("SELECT @@autocommit", [])[0][0]):
            raise PostHogSettingsError("sql_conn_id", "stays in autocommit.", "Name a connection with transactions.")

    def wait_for_others(self) -> None:
        """Wait for other loads of the table to end, as their rows are not visible before.

        :raises PostHogLoadError: if they take too long.
        """
        # A lock's name has 64 characters at the most; the database closes it with the connection.
        name = sha256(".".join(part or "" for part in self._at).encode()).hexdigest()[:40]
        rows = self._rows_of("SELECT GET_LOCK(%s, %s)", [f"posthog {name}", _PATIENCE])
        if not rows or not rows[0][0] or not int(rows[0][0]):
            raise PostHogLoadError(
                f"Another load of {self._name} has not ended for {_PATIENCE:,} s. Nothing was changed. Run loads of "
                "one table one after the other."
            )

    def check_erasable(self) -> None:
        """Check that rows can be deleted, and are gone then.

        :raises PostHogSettingsError: if the table's engine has no transactions, it is a view, or keeps its history.
        """
        self.check_engine("half an erasure")
        if any("VERSIONED" in text_of(kind).upper() for kind, *_ in self._rows_of(_ENGINE, self._at)):
            raise PostHogSettingsError(
                "table",
                f"is {self._name}, whose deleted rows stay in its history (SYSTEM VERSIONING).",
                "Run ALTER TABLE ... DROP SYSTEM VERSIONING before, and ADD it after.",
            )

    def check_engine(self, half: str = "half a load") -> None:
        """Check that what is written to the table can be undone.

        :param half: what would stay otherwise.
        :raises PostHogSettingsError: if its engine has no transactions, or it is a view, whose engine is not known.
        """
        rows = self._rows_of(_ENGINE, self._at)
        if not rows:
            return
        kind, engine, transactions = (text_of(value) for value in rows[0])
        if "VIEW" in kind.upper():
            raise PostHogSettingsError(
                "table", f"is {self._name}, a view: {half} might stay in its table.", "Name the table itself."
            )
        if transactions.upper() != "YES":
            raise PostHogSettingsError(
                "table",
                f"is {self._name}, whose engine ({engine or 'not known'}) has no transactions: {half} would stay.",
                "Run once: ALTER TABLE ... ENGINE = InnoDB, or, for a new table, make it with ENGINE = InnoDB.",
            )

    def key_type(self, schema: pa.Schema, key: Sequence[str]) -> str:
        """Return the type for texts in a key: as long as an index allows, with a binary collation.

        :param schema: what is loaded.
        :param key: the key's columns.
        """
        texts = sum(family_of(schema.field(name)) == "text" for name in key)
        size = (_INDEX - _OTHER * (len(key) - texts)) // _CHARACTER // max(texts, 1)
        known = {text_of(name) for (name,) in self._rows_of(_COLLATION, [])}
        collation = next((name for name in _COLLATIONS if name in known), _COLLATIONS[-1])
        return f"VARCHAR({size}) CHARACTER SET utf8mb4 COLLATE {collation}"


def text_of(value: object) -> str:
    """Return a value of the catalogue, which some drivers return as bytes.

    :param value: the value.
    """
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)
