"""Which functions HogQL has, how many arguments they take, and what ClickHouse calls them.

The first list in ``data`` was read from a PostHog server of October 2024; the second one has what PostHog's source of
2026 adds to it or changes in it. ``any_case`` marks the names that may be written in other case, because ClickHouse
allows it. A name in ClickHouse with parentheses is a template: ``{}`` and ``{0}`` stand for the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from airflow_provider_posthog.emulator.hogql.errors import HogQLError

_DATA = Path(__file__).parent


@dataclass(frozen=True)
class Function:
    """One function: its kind is function, aggregation, posthog or window."""

    name: str
    kind: str
    least: int
    most: int | None
    clickhouse: str
    any_case: bool

    def check(self, count: int) -> None:
        """Check a number of arguments.

        :param count: arguments given
        :raises HogQLError: with PostHog's text if there are too few or too many
        """
        if self.least <= count and (self.most is None or count <= self.most):
            return
        if self.least == self.most:
            bound, size = "", self.least
        elif count < self.least:
            bound, size = "at least ", self.least
        else:
            bound, size = "at most ", self.most or 0
        term = "Aggregation" if self.kind == "aggregation" else "Function"
        plural = "" if size == 1 else "s"
        raise HogQLError(f"{term} '{self.name}' expects {bound}{size} argument{plural}, found {count}")

    def written(self, args: list[str]) -> str | None:
        """Write a call of a function that ClickHouse has no name for; None for one that it has.

        :param args: the written arguments
        :raises HogQLError: if there are more or fewer than the template takes
        """
        if "(" not in self.clickhouse:
            return None
        count = self.clickhouse.count("{}")
        if count and count != len(args):
            plural = "" if count == 1 else "s"
            raise HogQLError(f"Function '{self.name}' requires exactly {count} argument{plural}")
        return self.clickhouse.format(*args)


def _function(line: str) -> Function:
    name, kind, least, most, clickhouse, any_case = line.split("\t")
    return Function(name, kind, int(least), int(most) if most else None, clickhouse, any_case == "1")


@lru_cache(maxsize=2)
def functions(*, newer: bool) -> dict[str, Function]:
    """List all functions by name.

    :param newer: with those that servers of 2025 and later have
    """
    by_name: dict[str, Function] = {}
    for name in ("hogql_functions.tsv", "hogql_functions_2026.tsv") if newer else ("hogql_functions.tsv",):
        lines = (_DATA / name).read_text(encoding="utf-8").splitlines()[1:]
        by_name |= {function.name: function for function in map(_function, lines)}
    return by_name


def find(name: str, *, newer: bool) -> Function:
    """Look a function up.

    :param name: as written in the query
    :param newer: with those that servers of 2025 and later have
    :raises HogQLError: with PostHog's hint, if HogQL has no such function
    """
    known = functions(newer=newer)
    function = known.get(name)
    if function is None and name.lower() in known and known[name.lower()].any_case:
        function = known[name.lower()]
    if function is None:
        hint = close_name(name, [key for key, item in known.items() if item.kind in ("function", "aggregation")])
        raise HogQLError(f"Unsupported function call '{name}(...)'{hint}")
    if function.kind not in ("function", "aggregation"):
        raise HogQLError(f"Unexpected unresolved HogQL function '{name}(...)'")
    return function


def close_name(name: str, names: Sequence[str]) -> str:
    """Give the hint PostHog adds to an unknown function.

    :param name: what was written
    :param names: what exists
    """
    close = get_close_matches(name, names, 1)
    return f". Perhaps you meant '{close[0]}(...)'?" if close else ""
