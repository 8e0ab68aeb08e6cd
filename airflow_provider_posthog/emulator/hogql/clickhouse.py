"""A resolved query -> ClickHouse SQL, with PostHog's care for NULL, time zones and JSON properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Between,
    Call,
    Cast,
    Column,
    Compare,
    Constant,
    Field,
    Index,
    Join,
    LazyTable,
    Logic,
    Node,
    Ref,
    Select,
    Slice,
)
from airflow_provider_posthog.emulator.hogql.currency import convert
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.functions import Function, find
from airflow_provider_posthog.emulator.hogql.kinds import kind_of
from airflow_provider_posthog.emulator.hogql.printer import Printer
from airflow_provider_posthog.emulator.hogql.resolver import output_name
from airflow_provider_posthog.emulator.hogql.session_lookup import looked_up
from airflow_provider_posthog.emulator.hogql.tables import PERSONS_AND_SOURCES
from airflow_provider_posthog.emulator.hogql.traffic import TRAFFIC
from airflow_provider_posthog.emulator.hogql.values import identifier, literal, words

# PostHog's own functions, which ClickHouse does not have
OWN = {**TRAFFIC, "convertCurrency": convert}
# these get the project's time zone as their last argument, unless the query gives one
_IN_ZONE = words(
    "toDateTime toDateTime64 toDateTimeUS parseDateTime parseDateTimeBestEffort now toTimeZone to_char make_timestamp"
)
_PARSERS = frozenset({"parseDateTime64BestEffortOrNull", "parseDateTime64BestEffortUSOrNull", "toDateTime64", "now64"})
_CAST_FUNCTIONS = {
    **dict.fromkeys(("int", "integer"), "toInt64"),
    **dict.fromkeys(("float", "double", "double precision", "real"), "toFloat64"),
    **dict.fromkeys(("text", "varchar", "char", "string"), "toString"),
    **dict.fromkeys(("boolean", "bool"), "toBool"),
    "date": "toDate",
    **dict.fromkeys(
        ("datetime", "timestamp", "timestamptz", "timestamp with time zone", "timestamp with local time zone"),
        "toDateTime",
    ),
}
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


@dataclass(frozen=True)
class Guards:
    """What every scan is limited to.

    :param team: the project's id, which its rows carry
    :param floor: what hides old events, if anything does
    """

    team: int = 1
    floor: Floor | None = None


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
    :param guards: what scans are limited to
    :param name_of: writes a column that is a call, which names it; None for servers where such a column has no name
    :param with_sources: as which persons are joined whose first sources are asked for
    """

    clickhouse = True

    def __init__(
        self,
        database: str,
        zone: str,
        *,
        newer: bool,
        qualified: bool = True,
        guards: Guards | None = None,
        name_of: Callable[[Node], str] | None = None,
        with_sources: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(newer=newer)
        self.name_of = name_of
        self.with_sources = with_sources
        self.database = database
        self.zone = zone
        self.qualified = qualified
        self.shown = qualified and not database
        self.values = 0
        self.guards = guards or Guards()
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
        """Write the expression of a field."""
        ref = node.ref
        if ref is None:
            return self.name(node.chain[-1])
        if ref.name == "*":
            return "*"
        if ref.expression is not None:
            return self.print(ref.expression)
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
        written = OWN[function.name](args, self.constant) if function.name in OWN else function.written(args)
        if written is not None:
            return written
        if function.name == "toDecimal" and len(args) == 2:
            return f"accurateCastOrNull({args[0]}, concat('Decimal64(', toString({args[1]}), ')'))"
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
        if function.name in ("toDate", "to_date") and kind in ("datetime", "date"):
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
        if node.op in ("in", "notIn") and self.newer:
            # these servers run with transform_null_in: NULL is in no list without it
            return text if node.op == "in" else f"ifNull({text}, 1)"
        if node.op in _TRUE_WITH_NULL:
            return f"ifNull({text}, isNotNull({left}) or isNotNull({right}))"
        if node.op in _TRUE_WITH_NULLS:
            return f"ifNull({text}, isNull({left}) and isNull({right}))"
        return f"ifNull({text}, 0)"

    def between(self, node: Between, text: str) -> str:
        """Write BETWEEN so that it is 0 or 1 even where a part is NULL."""
        if not any(_may_be_null(part) for part in (node.expr, node.low, node.high)):
            return text
        return f"ifNull({text}, 0)"

    def cast(self, node: Cast) -> str:
        """Write a cast with the function that PostHog takes for its type.

        :raises HogQLError: for a type that it knows none for: most of ClickHouse's own
        """
        function = _CAST_FUNCTIONS.get(node.type)
        if function is None:
            raise HogQLError(f"Unsupported type cast to '{node.type}'")
        zone = f", {self.constant(self.zone)}" if function == "toDateTime" else ""
        return f"{function}({self.print(node.expr)}{zone})"

    def slice(self, node: Slice) -> str:
        """Write a slice: its last element is part of it."""
        value, first = self.print(node.value), self.print(node.first) if node.first else "1"
        if node.last is None:
            return f"arraySlice({value}, {first})"
        return f"arraySlice({value}, {first}, plus(minus({self.print(node.last)}, {first}), 1))"

    def _with_constant(self, node: Compare, text: str, left: str, right: str) -> str:
        same = node.op == "equals"
        constant, other = (node.right, left) if isinstance(node.right, Constant) else (node.left, right)
        if isinstance(constant, Constant) and constant.value is None:
            return f"{'isNull' if same else 'isNotNull'}({other})"
        return f"ifNull({text}, {0 if same else 1})"

    # -- statements ----------------------------------------------------------------------------------------------

    def columns(self, node: Select) -> list[str]:
        """Write the columns of a SELECT, each field under its name once: the last of equal ones has it."""
        taken = {column.name for column in node.columns if isinstance(column, Alias)}
        written = []
        for column in reversed(node.columns):
            name = self._name_of(column)
            text = self.print(column)
            written.append(f"{text} AS {self.name(name)}" if name and name not in taken else text)
            taken.add(name)
        return written[::-1]

    def _name_of(self, column: Node) -> str:
        if isinstance(column, (Field, Index)):
            return output_name(column)
        if self.name_of is None or not isinstance(column, Call) or column.infix:
            return ""
        return self.name_of(column)

    def limited(self, members: str) -> str:
        """Write several SELECTs as a table: ClickHouse knows no LIMIT of the whole."""
        return f"SELECT * FROM ({members})"  # noqa: S608 - of our own making

    def where(self, node: Select) -> Node | None:
        """Give the condition with PostHog's guards: only rows of the project, and no events that are hidden."""
        first = node.source[0] if node.source else None
        if first is None or not isinstance(first.table, list) or first.args is not None:
            return node.where
        name = first.alias or "__".join(first.table)
        team = Field(["team_id"], Ref(name, "team_id", Column("integer", nullable=False)))
        guards: list[Node] = [Compare("equals", team, Constant(self.guards.team)), *self._hiding(first)]
        if first.table == ["sessions"] and not self.shown:
            looked = looked_up(node.where, name, newer=self.newer)
            guards += [] if looked is None else [looked]
        further = node.where.args if isinstance(node.where, Logic) and node.where.op == "and" else [node.where]
        parts = guards if node.where is None else [*guards, *further]
        return parts[0] if len(parts) == 1 else Logic("and", parts)

    def print(self, node: Node) -> str:
        """Write any node."""
        return node.text if isinstance(node, _Written) else super().print(node)

    def _hiding(self, join: Join) -> list[Node]:
        if self.guards.floor is None or join.table != ["events"]:
            return []
        column = f"{self.name(join.alias or 'events')}.timestamp"
        return [_Written(self.guards.floor.condition(column, self.constant(self.zone), shown=self.shown))]

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
            name = "__".join(join.table)
            text = self._named(name, join.alias or name, join.args)
        else:
            self.depth -= 1
            text = self.print(join.table)
            self.depth += 1
            text += f" AS {self.name(join.alias)}" if join.alias else ""
        self.in_constraint = True
        text += ("" if hidden else self.sample(join)) + self.constraint(join)
        self.in_constraint = False
        return text + "".join(self._lazy(alias, lazy) for alias, lazy in join.lazy.items())

    def _lazy(self, alias: str, table: LazyTable) -> str:
        owner, _, column = table.left.partition(".")
        condition = f"equals({self.name(owner)}.{self.name(column)}, {self.name(alias)}.{self.name(table.right)})"
        hidden = table.table == "events" and self.guards.floor is not None
        text = self._hidden_join(Join(["events"], alias=alias)) if hidden else self._named(table.table, alias, None)
        return f"\n{self.indent()}{table.join} {text} ON {condition}"

    def _named(self, table: str, alias: str, args: list[Node] | None) -> str:
        if self.database and alias in self.with_sources and table in ("persons", "raw_persons"):
            table = PERSONS_AND_SOURCES
        if args is not None:
            text = f"{self.name(table)}({', '.join(self.print(argument) for argument in args)})"
        else:
            text = f"{self.name(self.database)}.{self.name(table)}" if self.database else self.name(table)
        return text if text == self.name(alias) else f"{text} AS {self.name(alias)}"


def _may_be_null(node: Node) -> bool:
    """Whether PostHog guards a comparison with this against NULL: yes, unless it knows better."""
    if isinstance(node, Constant):
        return node.value is None
    if isinstance(node, Index) and node.op == "member":
        return _may_be_null(node.value)
    if isinstance(node, Field) and node.ref is not None:
        return bool(node.ref.properties) or node.ref.column.nullable
    return True
