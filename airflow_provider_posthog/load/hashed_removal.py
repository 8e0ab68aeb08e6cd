"""Erase persons' rows from warehouses that keep every statement for months: they see only salted hashes.

Snowflake and BigQuery show statements and their values to everybody who may see the history. So conditions compare the
hash of a column, with a new salt each time.
"""

# ruff: noqa: S608 - names are quoted, and hashes are hexadecimal digits

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.names import parse_table, quote
from airflow_provider_posthog.load.removal import Criterion

#: Hashes in a statement: both take a megabyte of text, and Snowflake 16,384 values.
_BATCH = 10_000


@dataclass(frozen=True)
class Flavour:
    """The SQL of a warehouse.

    :param mark: the quotation mark of names.
    :param upper: whether unquoted names are folded to upper case.
    :param text: its type of text.
    :param sha256: its hash of a text, as lower-case hexadecimal digits.
    :param keeps: what it retains of erased rows.
    """

    mark: str
    upper: bool
    text: str
    sha256: str
    keeps: str

    def names(self, text: str, parts: int) -> list[str]:
        """Quote a name's parts.

        :param text: the name, as in a statement.
        :param parts: how many parts it may have.
        """
        return [
            quote(part, self.mark) for part in parse_table(text, parts=parts, fold=str.upper if self.upper else str)
        ]


FLAVOURS: Mapping[str, Flavour] = {
    "snowflake": Flavour(
        '"',
        True,
        "VARCHAR",
        "SHA2({text}, 256)",
        "Snowflake keeps erased rows for Time Travel (DATA_RETENTION_TIME_IN_DAYS of the table) and seven days of "
        "Fail-safe after that.",
    ),
    "gcpbigquery": Flavour(
        "`",
        False,
        "STRING",
        "TO_HEX(SHA256({text}))",
        "BigQuery keeps erased rows for its time travel (max_time_travel_hours of the dataset, seven days by default) "
        "and seven days of fail-safe after that.",
    ),
}


class HashedRemoval:
    """Erases rows, statement by statement: after a kill, the next try erases the rest.

    :param connection: a PEP 249 connection.
    :param table: the table, such as ``analytics.events``; characters other than letters, digits, ``_`` and ``$`` in
        double quotes, such as ``"my-project".posthog.events``.
    :param flavour: of the warehouse.
    """

    def __init__(self, connection: Any, table: str, flavour: Flavour) -> None:  # noqa: ANN401 - PEP 249
        self._connection = connection
        self._table = table
        self._name = ".".join(flavour.names(table, 3))
        self._flavour = flavour
        self._salt = secrets.token_hex(16)

    def run(self, criteria: Sequence[Criterion]) -> dict[str, int]:
        """Erase, and count what is left.

        :param criteria: the columns; a row goes if any of them says so.
        :returns: how many rows were erased, by column; a row that two columns match counts for the first.
        :raises PostHogLoadError: if the warehouse refuses, or rows are left. The message holds no value.
        """
        columns = {criterion.column: self._column(criterion) for criterion in criteria}
        for name, column in columns.items():
            with translate_errors(self._connection, f"reading column {name} of {self._table}", "Nothing was erased."):
                self._execute(f"SELECT 1 FROM {self._name} WHERE {column} IS NULL AND 1 = 0")
        removed: dict[str, int] = {}
        for criterion in criteria:
            removed[criterion.column] = 0
            with translate_errors(
                self._connection, f"erasing rows of {self._table} by {criterion.column}", "Some may be gone."
            ):
                for hashes in self._batches(criterion):
                    removed[criterion.column] += self._erase(f"{columns[criterion.column]} IN ({hashes})")
        return removed

    def _erase(self, condition: str) -> int:
        count = self._count(condition)
        if count:
            self._execute(f"DELETE FROM {self._name} WHERE {condition}")
            left = self._count(condition)
            if left:
                raise PostHogLoadError(
                    f"{left:,} rows of {self._table} are still there after they were deleted: something else is "
                    "writing them. Let the task retry."
                )
        return count

    def _batches(self, criterion: Criterion) -> Iterator[str]:
        values: Iterable[str] = (value.lower() if criterion.any_case else value for value in criterion.values)
        left = iter(values)
        while batch := list(islice(left, _BATCH)):
            yield ", ".join(sorted({f"'{self._hash(value)}'" for value in batch}))

    def _hash(self, value: str) -> str:
        return hashlib.sha256((self._salt + value).encode("utf-8", "replace")).hexdigest()

    def _column(self, criterion: Criterion) -> str:
        (name,) = self._flavour.names(criterion.column, 1)
        text = f"CAST({name} AS {self._flavour.text})"
        text = f"LOWER(TRIM({text}))" if criterion.any_case else text
        return self._flavour.sha256.format(text=f"CONCAT('{self._salt}', {text})")

    def _count(self, condition: str) -> int:
        return int(self._execute(f"SELECT count(*) FROM {self._name} WHERE {condition}").fetchone()[0])

    def _execute(self, statement: str) -> Any:  # noqa: ANN401 - a PEP 249 cursor
        cursor = self._connection.cursor()  # not by the hook, which writes statements to the log
        cursor.execute(statement)
        return cursor
