"""Merge by batches of rows: look up which keys exist, and touch only rows that differ."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError
from airflow_provider_posthog.load.columns import family_of
from airflow_provider_posthog.load.flavours import Flavour
from airflow_provider_posthog.load.keys import alike, differing
from airflow_provider_posthog.load.loader import Loader
from airflow_provider_posthog.load.own_columns import repeated
from airflow_provider_posthog.load.target import VALID_FROM, VALID_TO, Loaded, Target

if TYPE_CHECKING:
    import pyarrow as pa

#: Keys per lookup; SQLite takes no condition deeper than 1,000.
_KEYS = 200


class KeyedLoader(Loader):
    """Writes rows of ``merge``, ``append`` and ``scd2`` to the table as they arrive, batch by batch."""

    _flavour: Flavour

    def __init__(self, connection: Any, target: Target) -> None:  # noqa: ANN401 - PEP 249
        super().__init__(connection, target)
        #: SQLite columns that do not store texts as they are.
        self._as_numbers: set[str] = set()
        self._inserted = 0
        self._kept = 0
        #: ``None`` where rows are not compared.
        self._changed: int | None = None
        self._seen = f"posthog_seen_{uuid4().hex[:12]}"

    def _put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Merge or append rows by their key."""
        at = [self.schema.get_field_index(name) for name in self.target.key]
        keys = [tuple(row[index] for index in at) for row in rows]
        chosen = {self._comparable(key): (key, row) for key, row in zip(keys, rows, strict=True)}
        keys = [key for key, _ in chosen.values()]
        before = self._there(keys)
        there = set(before)
        if self.target.write_disposition == "merge" and not self._others and len(before) > len(there):
            there = self._remove_twice(before)
        if self._updates:
            self._update([row for key, (_, row) in chosen.items() if key in there], at)
            if self.target.write_disposition == "scd2":  # those that are still open have not changed
                there = set(self._there(keys))
        elif self.target.write_disposition == "merge":
            same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
            self._execute_many(f"DELETE FROM {self._name} WHERE {same}", keys)
            there = set()
        try:
            self._insert([row for key, (_, row) in chosen.items() if key not in there])
        except Exception as error:
            # PEP 249's name for the error, in every driver.
            pair = alike(chosen) if any(kind.__name__ == "IntegrityError" for kind in type(error).__mro__) else None
            if pair is None:
                raise
            raise self._takes_for_one("keys", differing(self.target.key, pair)) from None
        self._kept += len(chosen)
        self._inserted += len(chosen) - len(set(before))
        self._see(keys)
        self._prove("of the keys", len(self._there(keys)), len(chosen))

    def _remove_twice(self, there: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Delete rows whose key the table has several times, if no index forbids that; return the other keys."""
        several = {key for key, number in Counter(there).items() if number > 1}
        same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
        self._execute_many(f"DELETE FROM {self._name} WHERE {same}", sorted(several, key=repr))
        if self._changed is not None:
            self._changed += len(several)
        return set(there) - several

    @property
    def _updates(self) -> bool:
        """Whether existing rows are updated, rather than deleted and written again."""
        merges = self.target.write_disposition == "merge" and (self._flavour.differs is not None or bool(self._others))
        return merges or self.target.write_disposition == "scd2"

    def _update(self, rows: Sequence[Sequence[Any]], key: Sequence[int]) -> None:
        """Update the loaded columns of rows that differ, or end their version."""
        compared = [self.schema.get_field_index(name) for name in self._compared_names]
        if self._flavour.differs is None:
            compared = [at for at in range(len(self.schema)) if at not in key]
        if not compared or not rows:
            return
        same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
        changed = " OR ".join(map(self._differs, compared)) if self._flavour.differs else "1 = 1"
        others = [at for at in range(len(self.schema)) if at not in key]
        ends: list[Any] = []
        if self.target.write_disposition == "scd2":
            assigned, ends = self._ends()
            others = []
        else:
            assigned = ", ".join(f"{self._quote(self.schema.names[at])} = {self._value}" for at in others)
        statement = f"UPDATE {self._name} SET {assigned} WHERE {same}{self._if_open()} AND ({changed})"
        known = compared if self._flavour.differs else []
        values = [[*ends, *(row[at] for at in (*others, *key, *known))] for row in rows]
        done = self._execute_many(statement, values)
        if self._changed is not None:
            self._changed += done

    def _differs(self, at: int) -> str:
        forms = self._flavour.differs or ("", "")
        column = self.schema.field(at)
        form = forms[1] if family_of(column) == "text" else forms[0]
        return form.format(column=self._quote(column.name), value=self._value)

    def _if_open(self) -> str:
        return f" AND {self._quote(self._is_open)} IS NULL" if self.target.write_disposition == "scd2" else ""

    def _ends(self) -> tuple[str, list[Any]]:
        """Return the assignments for rows that end, with their values."""
        named = self._end_of_rows
        assigned = ", ".join(f"{self._quote(name)} = {self._value}" for name in named)
        values = [self._values(self.schema.field(name), repeated(value, 1))[0] for name, value in named.items()]
        return assigned, values

    def _there(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the keys of the table's rows that have one of the keys."""
        same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
        rows: list[tuple[Any, ...]] = []
        for at in range(0, len(keys), _KEYS):
            batch = keys[at : at + _KEYS]
            condition = " OR ".join([f"({same})"] * len(batch))
            statement = f"SELECT {self._list(self.target.key)} FROM {self._name} WHERE ({condition}){self._if_open()}"
            rows += map(self._comparable, self._rows_of(statement, [value for key in batch for value in key]))
        wanted = set(map(self._comparable, keys))
        if not set(rows) <= wanted:
            pair = next(filter(None, (alike([*wanted, key]) for key in set(rows) - wanted)), None)
            raise self._takes_for_one("keys", differing(self.target.key, pair))
        return rows

    def _takes_for_one(self, what: str, columns: Sequence[str]) -> PostHogLoadError:
        return PostHogLoadError(
            f"{self.target.table} treats {what} as equal that differ in {', '.join(columns)}, as does a collation that "
            "ignores case, accents or trailing blanks, or a column that is too short, so rows would be lost. "
            f"Nothing was changed. Give these columns a binary collation: {self._flavour.binary}."
        )

    def _comparable(self, key: Sequence[Any]) -> tuple[Any, ...]:
        """Return a key in a form in which sent and returned values are equal."""
        import pyarrow.types as is_

        made = []
        for name, value in zip(self.target.key, key, strict=True):
            if name in self._as_numbers and isinstance(value, str) and is_.is_decimal(self.schema.field(name).type):
                value = float(value)  # as SQLite has it
            elif isinstance(value, datetime) and value.tzinfo:
                value = value.astimezone(timezone.utc).replace(tzinfo=None)
            elif isinstance(value, (UUID, memoryview)):
                value = str(value) if isinstance(value, UUID) else bytes(value)
            made.append(value)
        return tuple(made)

    def _merged(self) -> Loaded:
        if self.target.write_disposition == "append":
            return Loaded(self._kept, 0, self._inserted)
        self._check_later()
        where, values = self._where(None)
        if self._is_open:
            where = f"{where} AND {self._quote(self._is_open)} IS NULL"
        changed = self._changed
        unchanged = None if changed is None else self._kept - self._inserted - changed
        inserted = self._inserted + ((changed or 0) if self.target.write_disposition == "scd2" else 0)
        gone = deleted = None
        if self.target.deleted != "keep":
            gone = self._end_gone(where, values)
            deleted = gone if self.target.deleted == "delete" else None
        elif self.target.whole and not self._rejects.rejected:
            more = self._ask("count(*)", where, values) - self._kept
            gone = more if more >= 0 else None
        return Loaded(self._kept, deleted or 0, inserted, changed, unchanged, gone)

    def _check_later(self) -> None:
        """Refuse to write versions beside those of a load that began later."""
        if self.target.write_disposition != "scd2":
            return
        now = self._values(self.schema.field(VALID_FROM), repeated(self.target.now, 1))
        edges = (VALID_FROM, VALID_TO)  # it may have ended versions only
        where = " OR ".join(f"{self._quote(name)} > {self._value}" for name in edges)
        later = self._ask("count(*)", where, now * len(edges))
        if later:
            raise PostHogIncompleteError(
                f"{self.target.table} has {later:,} versions that began or ended after this load began: a later load "
                "was faster. Nothing was changed; the next load brings what is missing."
            )

    def _make_seen(self) -> None:
        """Create a temporary table for the keys that are loaded."""
        if self.target.deleted != "keep":
            keys = self._list(self.target.key)
            self._execute(
                f"CREATE TEMPORARY TABLE {self._quote(self._seen)} AS SELECT {keys} FROM {self._name} WHERE 1 = 0"
            )

    def _see(self, keys: Sequence[Sequence[Any]]) -> None:
        if self.target.deleted != "keep":
            values = ", ".join([self._value] * len(self.target.key))
            self._execute_many(f"INSERT INTO {self._quote(self._seen)} VALUES ({values})", keys)

    def _spare(self, keys: pa.Table) -> None:
        for batch in keys.to_batches():
            columns = (self._values(field, column) for field, column in zip(batch.schema, batch.columns, strict=True))
            self._see(list(zip(*columns, strict=True)))

    def _end_gone(self, where: str, values: Sequence[Any]) -> int:
        """Delete or mark existing rows that were not loaded; return how many."""
        keys = self._list(self.target.key)
        key = keys if len(self.target.key) == 1 else f"({keys})"
        there = self._ask("count(*)", where, values) - self._inserted
        gone = f"{where} AND {key} NOT IN (SELECT {keys} FROM {self._quote(self._seen)})"
        number = self._ask("count(*)", gone, values)
        self._guard_gone(there, number)
        if self.target.deleted == "delete":
            done = self._execute(f"DELETE FROM {self._name} WHERE {gone}", values)
        else:
            assigned, ends = self._ends()
            done = self._execute(f"UPDATE {self._name} SET {assigned} WHERE {gone}", [*ends, *values])
        if done != number:
            raise PostHogIncompleteError(
                f"{number:,} rows of {self.target.table} are gone from PostHog, and the database wrote {done:,} of "
                "them. Nothing was changed. Does a trigger of the table keep rows?"
            )
        return number

    @abstractmethod
    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows into the table."""

    @abstractmethod
    def _values(self, field: pa.Field, column: pa.Array) -> list[Any]:
        """Return a column's values for the driver."""
