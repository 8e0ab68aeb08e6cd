"""A resolved query -> ClickHouse SQL, with PostHog's care for NULL, time zones and JSON properties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.emulator.hogql_ast import (
    Alias,
    Call,
    Column,
    Compare,
    Constant,
    Field,
    Join,
    Logic,
    Node,
    Ref,
    Select,
)
from airflow_provider_posthog.emulator.hogql_functions import Function, find
from airflow_provider_posthog.emulator.hogql_kinds import kind_of
from airflow_provider_posthog.emulator.hogql_printer import Printer
from airflow_provider_posthog.emulator.hogql_resolver import output_name
from airflow_provider_posthog.emulator.hogql_values import identifier, literal

# these get the project's time zone as their last argument, unless the query gives one
_IN_ZONE = frozenset({"toDateTime", "toDateTime64", "toDateTimeUS", "parseDateTime", "parseDateTimeBestEffort", "now"})
_PARSERS = frozenset({"parseDateTime64BestEffortOrNull", "parseDateTime64BestEffortUSOrNull", "toDateTime64", "now64"})
_CASTS = {"toInt": "Int64", "toFloat": "Float64", "toDecimal": "Decimal(18, 6)", "toUUID": "UUID"}
# what a comparison with NULL on one side gives; with two NULLs it is the other way round
_TRUE_WITH_NULL = frozenset({"notEquals", "notLike", "notILike", "notMatch", "notIMatch"})
_TRUE_WITH_NULLS = frozenset({"equals", "like", "ilike", "match", "imatch"})


@dataclass(frozen=True)
class Floor:
    """Hides old events from every scan of them, as PostHog does since 2026 where a project's retention is enforced.

    :param months: how many calendar months of events are seen
    :param now: the server's time
    """

    months: int
    now: datetime

    def condition(self, column: str, zone: str, *, shown: bool) -> str:
        """Write the condition on the time of events, in ClickHouse's own months.

        :param column: the time, written
        :param zone: the project's time zone, written
        :param shown: write the server's clock as ``now``, as PostHog shows it
        """
        clock = f"now64(6, {zone})" if shown else f"fromUnixTimestamp64Micro({_micros(self.now)}, {zone})"
        return f"greater({column}, minus({clock}, toIntervalMonth({self.months})))"


def _micros(moment: datetime) -> str:
    return f"toInt64({(moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)})"


@dataclass
class _Written(Node):
    """A condition that is written already."""

    text: str


class ClickHousePrinter(Printer):
    """Writes ClickHouse SQL.

    :param database: the database of the project's tables; empty for the text PostHog shows in ``clickhouse``, where
        values are named ``%(hogql_val_0)s`` and so on
    :param zone: the project's time zone
    :param newer: whether the functions of newer servers are known
    :param qualified: False writes columns without their table, as ClickHouse names result columns
    :param floor: what hides old events
    """

    clickhouse = True

    def __init__(
        self, database: str, zone: str, *, newer: bool, qualified: bool = True, floor: Floor | None = None
    ) -> None:
        super().__init__(newer=newer)
        self.database = database
        self.zone = zone
        self.qualified = qualified
        self.shown = qualified and not database
        self.values = 0
        self.floor = floor
        self.in_constraint = False

    def constant(self, value: object) -> str:
        """Write a constant; text and lists are hidden where the SQL is only shown."""
        if self.shown and isinstance(value, (str, list)):
            self.values += 1
            return f"%(hogql_val_{self.values - 1})s"
        return literal(value, clickhouse=True)

    def name(self, text: str) -> str:
        """Write a name."""
        return identifier(text, clickhouse=True)

    # -- fields --------------------------------------------------------------------------------------------------

    def field(self, node: Field) -> str:
        """Write what a field stands for."""
        ref = node.ref
        if ref is None:
            return self.name(node.chain[-1])
        if ref.name == "*":
            return "*"
        text = self._column(ref)
        if not ref.properties:
            return text
        keys = "".join(f", {self.constant(key)}" for key in ref.properties)
        raw = f"nullIf(nullIf(JSONExtractRaw({text}{keys}), ''), 'null')"
        text = f"replaceRegexpAll({raw}, '^\"|\"$', '')"
        return f"accurateCastOrNull({text}, {self.constant('Float64')})" if ref.number else text

    def _column(self, ref: Ref) -> str:
        text = self.name(ref.name)
        if ref.table and self.qualified:
            text = f"{self.name(ref.table)}.{text}"
        return f"toTimeZone({text}, {self.constant(self.zone)})" if ref.in_zone else text

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(self, node: Call) -> str:
        """Write a call with ClickHouse's name of the function and the arguments PostHog adds."""
        function = find(node.name, newer=self.newer)
        if function.name == "concat":
            return self.call_text("concat", node, [self._text_of(argument) for argument in node.args])
        args = [self.print(argument) for argument in node.args]
        if function.name in _CASTS:
            return self.call_text(function.clickhouse, node, [*args, self.constant(_CASTS[function.name])])
        name = self._overload(function, node)
        if function.name in _IN_ZONE:
            args = self._in_zone(function, name, args)
        return self.call_text(name, node, args)

    def _overload(self, function: Function, node: Call) -> str:
        kind = kind_of(node.args[0]).kind if node.args else ""
        if function.name == "toDateTime" and kind in ("datetime", "date", "integer"):
            return "toDateTime"
        if function.name == "toDate" and kind in ("datetime", "date"):
            return "toDate"
        return function.clickhouse

    def _in_zone(self, function: Function, name: str, args: list[str]) -> list[str]:
        if name == "toDateTime64" and len(args) >= 2:
            return args if len(args) == 3 else [*args, self.constant(self.zone)]
        zoned = len(args) == function.most
        if not zoned:
            args = [*args, self.constant(self.zone)]
        return [*args[:-1], "6", args[-1]] if name in _PARSERS else args

    def _text_of(self, argument: Node) -> str:
        """Write an argument of ``concat``: PostHog reads NULL as empty text there."""
        if isinstance(argument, Constant):
            if argument.value is None:
                return "''"
            text = self.print(argument)
            return text if isinstance(argument.value, str) else f"toString({text})"
        text = self.print(argument)
        if isinstance(argument, Call) and argument.name == "toString":
            return f"ifNull({text}, '')"
        return f"ifNull(toString({text}), '')"

    # -- comparisons ---------------------------------------------------------------------------------------------

    def comparison(self, node: Compare, text: str, left: str, right: str) -> str:
        """Write a comparison that is 0 or 1 even where a side is NULL."""
        left_null, right_null = _may_be_null(node.left), _may_be_null(node.right)
        if self.in_constraint or not (left_null or right_null):
            return text
        if node.op in ("equals", "notEquals") and (isinstance(node.left, Constant) or isinstance(node.right, Constant)):
            return self._with_constant(node, text, left, right)
        if node.op in ("in", "notIn") and not left_null:
            return text
        if node.op in _TRUE_WITH_NULL:
            return f"ifNull({text}, isNotNull({left}) or isNotNull({right}))"
        if node.op in _TRUE_WITH_NULLS:
            return f"ifNull({text}, isNull({left}) and isNull({right}))"
        return f"ifNull({text}, 0)"

    def _with_constant(self, node: Compare, text: str, left: str, right: str) -> str:
        same = node.op == "equals"
        constant, other = (node.right, left) if isinstance(node.right, Constant) else (node.left, right)
        if isinstance(constant, Constant) and constant.value is None:
            return f"{'isNull' if same else 'isNotNull'}({other})"
        return f"ifNull({text}, {0 if same else 1})"

    # -- statements ----------------------------------------------------------------------------------------------

    def columns(self, node: Select) -> list[str]:
        """Write the columns of a SELECT, each field under its name once."""
        taken = {column.name for column in node.columns if isinstance(column, Alias)}
        written = []
        for column in node.columns:
            name = output_name(column) if isinstance(column, Field) else ""
            text = self.print(column)
            written.append(f"{text} AS {self.name(name)}" if name and name not in taken else text)
            taken.add(name)
        return written

    def where(self, node: Select) -> Node | None:
        """Give the condition with PostHog's guards: only rows of the project, and no events that are hidden."""
        first = node.source[0] if node.source else None
        if first is None or not isinstance(first.table, list) or first.args is not None:
            return node.where
        team = Field(["team_id"], Ref(first.alias or first.table[-1], "team_id", Column("integer", nullable=False)))
        guards: list[Node] = [Compare("equals", team, Constant(1)), *self._hiding(first)]
        further = node.where.args if isinstance(node.where, Logic) and node.where.op == "and" else [node.where]
        parts = guards if node.where is None else [*guards, *further]
        return parts[0] if len(parts) == 1 else Logic("and", parts)

    def print(self, node: Node) -> str:
        """Write any node."""
        return node.text if isinstance(node, _Written) else super().print(node)

    def _hiding(self, join: Join) -> list[Node]:
        if self.floor is None or join.table != ["events"]:
            return []
        column = f"{self.name(join.alias or 'events')}.timestamp"
        return [_Written(self.floor.condition(column, self.constant(self.zone), shown=self.shown))]

    def _hidden_join(self, join: Join) -> str:
        """Write events that are joined to something: the guard is part of them, so that an outer join stays one."""
        condition = self._hiding(Join(["events"]))[0]
        events = f"{self._named('events', 'events', None)}{self.sample(join)}"
        name = self.name(join.alias or "events")
        return f"(SELECT * FROM {events} WHERE {self.print(condition)}) AS {name}"  # noqa: S608 - of our own making

    def table(self, join: Join) -> str:
        """Write a table or sub-query, its alias, and the tables its fields bring in."""
        hidden = bool(join.kind) and bool(self._hiding(join))
        if hidden:
            text = self._hidden_join(join)
        elif isinstance(join.table, list):
            text = self._named(".".join(join.table), join.alias or join.table[-1], join.args)
        else:
            self.depth -= 1
            text = self.print(join.table)
            self.depth += 1
            text += f" AS {self.name(join.alias)}" if join.alias else ""
        self.in_constraint = True
        text += ("" if hidden else self.sample(join)) + self.constraint(join)
        self.in_constraint = False
        return text + "".join(self._lazy(alias, *vars(lazy).values()) for alias, lazy in join.lazy.items())

    def _lazy(self, alias: str, table: str, left: str, right: str) -> str:
        owner, _, column = left.partition(".")
        condition = f"equals({self.name(owner)}.{self.name(column)}, {self.name(alias)}.{self.name(right)})"
        return f"\n{self._indent()}LEFT OUTER JOIN {self._named(table, alias, None)} ON {condition}"

    def _named(self, table: str, alias: str, args: list[Node] | None) -> str:
        if args is not None:
            text = f"{self.name(table)}({', '.join(self.print(argument) for argument in args)})"
        else:
            text = f"{self.name(self.database)}.{self.name(table)}" if self.database else self.name(table)
        return text if text == self.name(alias) else f"{text} AS {self.name(alias)}"


def _may_be_null(node: Node) -> bool:
    """Whether PostHog guards a comparison with this against NULL: yes, unless it knows better."""
    if isinstance(node, Constant):
        return node.value is None
    if isinstance(node, Field) and node.ref is not None:
        return bool(node.ref.properties) or node.ref.column.nullable
    return True
