"""Merge by statements: rows are loaded into a staging table, and only rows that differ are touched."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import ClassVar

from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.load.loader import Loader
from airflow_provider_posthog.load.target import VALID_FROM, VALID_TO, Loaded


class StagedLoader(Loader):
    """Writes rows of ``merge``, ``append`` and ``scd2`` to a stage, and merges them into the table at the end.

    A second stage holds which of them are to be written: their number, and whether a row of their key is there.
    """

    #: The statement that creates a table only this transaction sees, before and after its name.
    own_table: ClassVar[tuple[str, str]] = ("CREATE TABLE", "")
    #: An alias that hides the target's own name in an INSERT.
    _as_target: ClassVar[str] = ""
    #: The stage, the differences, the stage's column of the order, and what rows of the stage are called; quoted.
    _stage: str
    _differences: str
    _number: str
    _alias: str
    #: Whether no two rows of the stage have one key.
    _are_keys_once = False
    #: The stage of the keys whose rows are in quarantine; empty if there are none.
    _spared = ""

    def _bring_in(self) -> Loaded:
        """Merge the stage into the table."""
        if self.target.write_disposition == "scd2":
            self._check_later()
        kept = self._count_keys()
        self._find_differences()
        new = self._count(f"{self._differences} WHERE NOT is_there")
        changed = self._count(f"{self._differences} WHERE is_there")
        appends = self.target.write_disposition == "append"
        gone = deleted = None
        if self.target.deleted != "keep":
            gone = self._end_gone()
            deleted = gone if self.target.deleted == "delete" else None
        written = self._write_versions() if self.target.write_disposition == "scd2" else self._write_differences()
        # Where nothing was written, the search for differences has just found each of them there; an index says: once.
        if new or changed or gone or not self._is_unique:
            self._prove_keys(kept)
        if appends:
            new = written
        else:  # a trigger can keep the old row
            self._prove("of the rows", written, new + changed)
        if gone is None and self.target.whole and not appends and not self._rejects.rejected:
            gone = self._left_over(kept)
        inserted = written if self.target.write_disposition == "scd2" else new
        if appends:
            return Loaded(kept, 0, inserted)
        return Loaded(kept, deleted or 0, inserted, changed, kept - new - changed, gone)

    def _find_differences(self) -> None:
        stage, number = self._alias, f"{self._alias}.{self._number}"
        keys = ", ".join(self._keys(stage))
        is_there = f"there.{self._quote(self.target.key[0])} IS NOT NULL"
        differs = " OR ".join(self._differs(name, "there", stage) for name in self._compared_names)
        if self.target.write_disposition == "append" or not differs:
            differs = "1 = 0"
        chosen, joined = number, f"{self._stage} AS {stage} "
        if not self._are_keys_once:  # of several rows of a key the last one counts
            chosen = "chosen.n"
            joined = (
                f"(SELECT max({number}) AS n FROM {self._stage} AS {stage} GROUP BY {keys}) AS chosen "
                f"JOIN {self._stage} AS {stage} ON {number} = chosen.n "
            )
        joined += f"LEFT JOIN {self._name} AS there ON {self._same('there', stage)}{self._if_open('there')}"
        differences = f"SELECT {chosen} AS n, {is_there} AS is_there FROM {joined} WHERE NOT ({is_there}) OR {differs}"
        if (
            not self._is_unique and self.target.write_disposition != "append"
        ):  # two rows of one key, of which one has to go
            differences = (
                f"SELECT n, bool_or(is_there) AS is_there FROM (SELECT {chosen} AS n, {is_there} AS is_there, "
                f"({differs}) AS differs FROM {joined}) AS each_row "
                "GROUP BY n HAVING NOT bool_or(is_there) OR bool_or(differs) OR count(*) > 1"
            )
        make, end = self.own_table
        self._execute(f"{make} {self._differences}{end} AS {differences}")

    def _end_gone(self) -> int:
        """Delete or mark existing rows that were not loaded; return how many."""
        where, values = self._where(None)
        if self._is_open:
            where = f"{where} AND {self._quote(self._is_open)} IS NULL"
        there = self._ask("count(*)", where, values)
        same = self._same(self._name, self._alias)
        stages = [stage for stage in (self._stage, self._spared) if stage]
        loaded = (f"NOT EXISTS (SELECT 1 FROM {stage} AS {self._alias} WHERE {same})" for stage in stages)
        gone = " AND ".join((where, *loaded))
        number = self._ask("count(*)", gone, values)
        self._guard_gone(there, number)
        done = number
        if self.target.deleted == "delete":
            done = self._execute(f"DELETE FROM {self._name} WHERE {gone}", values)
        elif number:
            done = self._execute(f"UPDATE {self._name} SET {self._ends()} WHERE {gone}", values)
        if done != number:
            raise PostHogIncompleteError(
                f"{number:,} rows of {self.target.table} are gone from PostHog, and the database wrote {done:,} of "
                "them. Nothing was changed. Does a trigger or rule of the table keep rows?"
            )
        return number

    def _write_versions(self) -> int:
        """End the versions that others follow, and write these; return how many."""
        stage = self._alias
        same = self._same(self._name, stage)
        followed = (
            f"SELECT 1 FROM {self._stage} AS {stage} JOIN {self._differences} AS found "
            f"ON found.n = {stage}.{self._number} AND found.is_there WHERE {same}"
        )
        is_open = f"{self._quote(self._is_open)} IS NULL"
        self._execute(f"UPDATE {self._name} SET {self._ends()} WHERE {is_open} AND EXISTS ({followed})")
        return self._insert(f"JOIN {self._differences} AS found ON found.n = {stage}.{self._number}")

    def _check_later(self) -> None:
        """Refuse to write versions beside those of a load that began later."""
        now = self._literal(self.target.now)
        edges = (VALID_FROM, VALID_TO)  # it may have ended versions only
        later = self._ask("count(*)", " OR ".join(f"{self._quote(name)} >= {now}" for name in edges), [])
        if later:
            raise PostHogIncompleteError(
                f"{self.target.table} has {later:,} versions that began or ended after this load began: a later load "
                "was faster. Nothing was changed; the next load brings what is missing."
            )

    def _insert(self, joined: str, conflict: str = "") -> int:
        columns, stage = self._list(self.schema.names), self._alias
        values = ", ".join(self._as_kept(name, stage) for name in self.schema.names)
        source = f"{self._stage} AS {stage} {joined}{conflict}"
        return self._execute(f"INSERT INTO {self._name}{self._as_target} ({columns}) SELECT {values} FROM {source}")

    def _prove_keys(self, kept: int) -> None:
        """Prove that the table has each key of the stage exactly once."""
        self._prove("of the keys", self._keys_there(), kept)

    def _left_over(self, kept: int) -> int | None:
        """Count the rows beyond the loaded ones; ``None`` if there are fewer."""
        where, values = self._where(None)
        if self._is_open:
            where = f"{where} AND {self._quote(self._is_open)} IS NULL"
        more = self._ask("count(*)", where, values) - kept
        return more if more >= 0 else None

    def _if_open(self, there: str) -> str:
        """Return the condition that a row is the newest version of its key."""
        return f" AND {there}.{self._quote(self._is_open)} IS NULL" if self.target.write_disposition == "scd2" else ""

    def _ends(self) -> str:
        return ", ".join(f"{self._quote(name)} = {self._literal(value)}" for name, value in self._end_of_rows.items())

    @property
    def _is_unique(self) -> bool:
        """Whether an index makes the key unique among the rows that are compared."""
        return False

    @abstractmethod
    def _count(self, of: str) -> int:
        """Count the rows of a FROM expression."""

    @abstractmethod
    def _count_keys(self) -> int:
        """Count the stage's different keys, compared exactly."""

    @abstractmethod
    def _keys_there(self) -> int:
        """Count the rows of the table that have one of them, compared exactly."""

    @abstractmethod
    def _literal(self, value: datetime | str | None) -> str:
        """Write a value of a column of the loader's own."""

    @abstractmethod
    def _keys(self, stage: str) -> list[str]:
        """Return the stage's keys as the table has them."""

    @abstractmethod
    def _same(self, there: str, stage: str) -> str:
        """Return the condition that a row of the table and one of the stage have exactly the same key."""

    @abstractmethod
    def _differs(self, name: str, there: str, stage: str) -> str:
        """Return the condition that a column of the table and of the stage differ, compared exactly."""

    @abstractmethod
    def _as_kept(self, name: str, stage: str) -> str:
        """Return a column of the stage as the table has it."""

    @abstractmethod
    def _write_differences(self) -> int:
        """Write the rows that differ; return how many."""
