"""Gives every name of a parsed query its meaning, or refuses it as PostHog does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Between,
    Call,
    Cast,
    Column,
    Compare,
    Constant,
    Cte,
    Distinct,
    Field,
    Index,
    Join,
    Lambda,
    LazyTable,
    Logic,
    Node,
    Order,
    Ref,
    Select,
    SelectSet,
    Sequence,
    Slice,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.kinds import kind_of, refuse_text_as_time
from airflow_provider_posthog.emulator.hogql.renaming import first_select, rename
from airflow_provider_posthog.emulator.hogql.schema import NUMBERS, tables
from airflow_provider_posthog.emulator.hogql.schema_types import ExpressionField, Link, Table, Through, is_virtual
from airflow_provider_posthog.emulator.hogql.select import SelectParser
from airflow_provider_posthog.emulator.hogql.stars import expanded

_STAR = Column("other")


@dataclass
class _Source:
    """A table or sub-query of a FROM clause, under its alias."""

    alias: str
    join: Join
    table: Table | None = None
    outputs: dict[str, Column] = field(default_factory=dict)

    def star(self) -> list[str]:
        return self.table.star() if self.table else list(self.outputs)

    def has(self, name: str) -> bool:
        return name in (self.table.fields if self.table else self.outputs)


@dataclass
class _Scope:
    """The names one SELECT knows."""

    ctes: dict[str, Cte]
    sources: list[_Source] = field(default_factory=list)
    aliases: dict[str, Column] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)


class Resolver:
    """Walks a tree once and fills in every :class:`Field`'s ``ref``; ``*`` becomes the columns it stands for.

    :param tables: the tables there are, by name
    :param name_of: writes a column that is a call, which names it; None for servers where such a column has no name
    :param views: the HogQL of the views there are, by name
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        name_of: Callable[[Node], str] | None = None,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.tables = tables
        self.views = views or {}
        self.name_of = name_of
        self.scope = _Scope({})

    def query(self, node: Node, ctes: dict[str, Cte] | None = None) -> dict[str, Column]:
        """Resolve a query.

        :param node: the tree, changed in place
        :param ctes: the WITH names of the queries around it
        :returns: its named output columns
        :raises HogQLError: for an unknown table or field
        """
        if isinstance(node, SelectSet):
            # the names of the first SELECT are known to the others, too
            shared = {**(ctes or {}), **first_select(node).ctes}
            outputs = [self.query(member, shared) for member in node.members]
            self._visit(node.limits.limit)
            self._visit(node.limits.offset)
            return outputs[0]
        if not isinstance(node, Select):
            raise HogQLError("Only SELECT queries can be put together")
        outside = self.scope
        self.scope = _Scope({**(ctes or {}), **node.ctes})
        try:
            return self._select(node)
        finally:
            self.scope = outside

    def _select(self, node: Select) -> dict[str, Column]:
        for join in node.source:
            self._join(join)
        for item in node.array_join:
            self._visit(item)
        node.columns = [column for item in node.columns for column in expanded(item, self.scope.sources)]
        # the star of a query whose columns have no names
        node.columns = node.columns or [Constant(1)]
        for column in node.columns:
            self._visit(column)
        for expression in (node.prewhere, node.where, *node.group_by, node.having):
            self._visit(expression)
        for window in node.windows.values():
            self._window(window)
        self._orders(node.order_by)
        for value in (node.interpolate or {}).values():
            self._visit(value)
        by = node.limit_by
        limits = [node.limits.limit, node.limits.offset]
        for expression in [*limits, *([by.count, by.offset, *by.by] if by else [])]:
            self._visit(expression)
        return self._outputs(node)

    def _outputs(self, node: Select) -> dict[str, Column]:
        """Name the columns: of equal implicit names the last one counts, but an alias comes first."""
        outputs: dict[str, Column] = {}
        written: set[str] = set()
        for column in node.columns:
            name = output_name(column)
            if not name and self.name_of is not None and isinstance(column, Call) and not column.infix:
                name = self.name_of(column)
            if name and not (name in written and not isinstance(column, Alias)):
                outputs[name] = kind_of(column)
            if isinstance(column, Alias):
                written.add(name)
        return outputs

    def _orders(self, orders: list[Order]) -> None:
        for order in orders:
            fill = order.fill
            for item in (order.expr, *((fill.low, fill.high, fill.step) if fill else ())):
                self._visit(item)

    # -- FROM ----------------------------------------------------------------------------------------------------

    def _join(self, join: Join) -> None:
        source = self._source(join)
        if any(other.alias == source.alias for other in self.scope.sources if source.alias):
            raise HogQLError(
                f'Already have joined a table called "{source.alias}". Can\'t join another one with the same name.'
            )
        self.scope.sources.append(source)
        for argument in join.args or []:
            self._visit(argument)
        self._visit(join.constraint)

    def _source(self, join: Join) -> _Source:
        if join.names:
            rename(join, self._columns_of(join))
        if isinstance(join.table, list):
            name = join.table[0]
            cte = self.scope.ctes.get(name)
            if cte is None or cte.is_column or len(join.table) > 1:
                if ".".join(join.table) in self.views:
                    return self._view(join, join.table)
                self._shorten(join, join.table)
                return _Source(join.alias or "__".join(join.table), join, self._table(join.table, join.args))
            join.table, join.alias = copy.deepcopy(cte.expr), join.alias or name
            # a WITH name may use other names, never itself
            others = {key: query for key, query in self.scope.ctes.items() if key != name}
            return _Source(join.alias, join, outputs=self.query(join.table, others))
        return _Source(join.alias or "", join, outputs=self.query(join.table, self.scope.ctes))

    def _shorten(self, join: Join, chain: list[str]) -> None:
        """Read ``posthog.events`` as ``events``: newer servers have PostHog's own tables there, too."""
        newer = self.name_of is not None and chain[0] == "posthog" and ".".join(chain) not in self.tables
        if newer and len(chain) == 2 and chain[1] in tables(newer=True) and chain[1] != "numbers":
            join.table, join.alias = chain[1:], join.alias or "__".join(chain)

    def _view(self, join: Join, chain: list[str]) -> _Source:
        """Put the query of a view into its place; it knows no names of the queries around it."""
        text = self.views[".".join(chain)]
        join.table, join.alias = SelectParser(text, newer=True).query(), join.alias or "__".join(chain)
        return _Source(join.alias, join, outputs=self.query(join.table, {}))

    def _columns_of(self, join: Join) -> list[str]:
        """List the columns of a table whose names are given anew: ``events AS e(a, b)``."""
        if not isinstance(join.table, list):
            return []
        return self._table(join.table, join.args).star()

    def _table(self, chain: list[str], args: list[Node] | None) -> Table:
        table = self.tables.get(".".join(chain))
        if table is None and self.name_of is not None and chain[0] in ("range", "generate_series") and args:
            raise HogQLError(f"{chain[0]}() is not supported in ClickHouse dialect")
        if table is None:
            # older servers know no dots in the names of tables
            raise HogQLError(f'Unknown table "{chain[0] if self.name_of is None else ".".join(chain)}".')
        if table.name == "numbers":
            if not args or len(args) > 2:
                raise HogQLError("Table function 'numbers' requires arguments: 1 or 2 numbers")
        elif args is not None:
            raise HogQLError(f"Table '{table.name}' does not accept arguments")
        return table

    # -- expressions ---------------------------------------------------------------------------------------------

    def _visit(self, node: Node | None) -> None:
        if isinstance(node, (Select, SelectSet)):
            self.query(node, self.scope.ctes)
        elif isinstance(node, Lambda):
            self.scope.arguments[:0] = node.args
            self._visit(node.body)
            del self.scope.arguments[: len(node.args)]
        elif isinstance(node, WindowCall):
            self._visit(node.call)
            if isinstance(node.over, Window):
                self._window(node.over)
        else:
            self._expression(node)

    def _expression(self, node: Node | None) -> None:
        if isinstance(node, Field):
            self._field(node)
        elif isinstance(node, Index):
            self._index(node)
        elif isinstance(node, Alias):
            self._visit(node.expr)
            if node.name in self.scope.aliases:
                raise HogQLError(f"Cannot redefine an alias with the name: {node.name}")
            self.scope.aliases[node.name] = kind_of(node.expr)
        else:
            for child in _children(node):
                self._visit(child)
            for pair in _compared(node):
                refuse_text_as_time(*pair)

    def _index(self, node: Index) -> None:
        """Resolve ``a[1]``; of JSON it is a property, written in another way."""
        value, key = node.value, node.index
        if isinstance(value, Field) and isinstance(key, Constant) and is_virtual(value.chain[-1], key.value):
            node.op, node.value = "member", Field([*value.chain, str(key.value)])
            return self._visit(node.value)
        self._visit(value)
        self._visit(key)
        if isinstance(key, Constant) and key.value == 0:
            raise HogQLError(
                f"SQL indexes start from one, not from zero. E.g: array{'.1' if node.op == 'tuple' else '[1]'}"
            )
        while isinstance(value, Index) and value.op == "member":
            value = value.value
        if not isinstance(value, Field) or not isinstance(key, Constant) or not isinstance(key.value, (str, int)):
            return
        if (ref := value.ref) is None:
            return
        if ref.properties or ref.column.kind == "json":
            ref.properties, ref.column, ref.number = [*ref.properties, key.value], Column("string"), False
            ref.number = ref.properties == [key.value] and key.value in NUMBERS.get(ref.origin, ())
            ref.column = Column("number") if ref.number else ref.column
            node.op = "member"
            value.chain.append(str(key.value))

    def _window(self, window: Window) -> None:
        for item in window.partition_by:
            self._visit(item)
        self._orders(window.order_by)
        frame = window.frame
        for bound in (frame.start, frame.end) if frame else ():
            self._visit(bound.size if bound else None)

    def _field(self, node: Field) -> None:
        name, rest = node.chain[0], node.chain[1:]
        if name == "*" and not rest:
            node.ref = Ref("", "*", _STAR)
            return
        source = next((source for source in self.scope.sources if source.alias == name), None)
        if source is not None and rest:
            node.ref = self._member(source, rest)
        elif name in self.scope.arguments:
            node.ref = self._keys(Ref("", name, Column("other")), rest)
        elif name in self.scope.aliases:
            node.ref = self._keys(Ref("", name, self.scope.aliases[name]), rest)
        elif self.scope.ctes.get(name) is not None and not any(source.has(name) for source in self.scope.sources):
            self._named_expression(node)
        else:
            node.ref = self._unqualified(node)

    def _named_expression(self, node: Field) -> None:
        """Put the expression of ``WITH expression AS name`` in the name's place."""
        name = node.chain[0]
        if len(node.chain) > 1:
            raise HogQLError(f"Cannot access fields on CTE {name} yet")
        held = self.scope.ctes.pop(name)
        node.expansion = copy.deepcopy(held.expr)
        self._visit(node.expansion)
        self.scope.ctes[name] = held

    def _unqualified(self, node: Field) -> Ref:
        name = node.chain[0]
        sources = [source for source in self.scope.sources if source.has(name)]
        if len(sources) > 1:
            raise HogQLError(f"Ambiguous query. Found multiple sources for field: {name}")
        if sources:
            return self._member(sources[0], node.chain)
        raise HogQLError(f"Unable to resolve field: {name}")

    def _member(self, source: _Source, chain: list[str]) -> Ref:
        name = chain[0]
        if not source.has(name):
            raise HogQLError(f"Field not found: {name}" if source.table is None else f"Unable to resolve field: {name}")
        if source.table is None:
            return self._keys(Ref(source.alias, name, source.outputs[name]), chain[1:])
        return self._table_member(source.table, source.alias, source.join, chain)

    def _table_member(self, table: Table, alias: str, join: Join, chain: list[str]) -> Ref:
        if self.name_of is not None and is_virtual(*chain[:2]) and chain[1] in table.fields:
            chain = chain[1:]
        kind = table.fields.get(chain[0])
        if kind is None:
            raise HogQLError(f"Field not found: {chain[0]}")
        if isinstance(kind, ExpressionField):
            known = (["properties", key] for key in kind.properties)
            args: list[Node] = [Field(each, self._table_member(table, alias, join, each)) for each in known]
            return self._keys(Ref(alias, chain[0], kind.column, expression=Call(kind.function, args)), chain[1:])
        if isinstance(kind, Through):
            return self._table_member(table, alias, join, [*kind.chain, *chain[1:]])
        if isinstance(kind, Link):
            if len(chain) == 1:
                raise HogQLError(f"Can't select a table when a column is expected: {chain[0]}")
            linked = f"{alias}__{chain[0]}"
            join.lazy[linked] = LazyTable(kind.table, f"{alias}.{kind.left}", kind.right, kind.join)
            return self._table_member(self.tables[kind.table], linked, join, chain[1:])
        ref = Ref(alias, kind.name or chain[0], kind, in_zone=kind.kind == "datetime", origin=table.name)
        ref = self._keys(ref, chain[1:])
        ref.number = len(ref.properties) == 1 and ref.properties[0] in NUMBERS.get(table.name, ())
        if ref.number:
            ref.column = Column("number")
        return ref

    def _keys(self, ref: Ref, keys: list[str]) -> Ref:
        if not keys:
            return ref
        if ref.column.kind != "json":
            raise HogQLError(f'Can not access property "{keys[0]}" on field "{ref.name}".')
        ref.properties, ref.column = list(keys), Column("string")
        return ref


def output_name(column: Node) -> str:
    """Return the name of an output column, empty if it has none but its text.

    :param column: an expression of a SELECT's list, resolved
    """
    if isinstance(column, Alias):
        return column.name
    if isinstance(column, Index) and column.op == "member":
        return output_name(column.value)
    if isinstance(column, Field) and column.expansion is None:
        properties = column.ref.properties if column.ref else []
        return "__".join(map(str, properties)) if properties else column.chain[-1]
    return ""


def _children(node: Node | None) -> list[Node | None]:
    if isinstance(node, Call):
        return [*(node.params or []), *node.args, *(order.expr for order in node.order_by), node.filter]
    if isinstance(node, (Compare, Distinct)):
        return [node.left, node.right]
    if isinstance(node, Logic):
        return [*node.args]
    if isinstance(node, Sequence):
        return [*node.items]
    if isinstance(node, Between):
        return [node.expr, node.low, node.high]
    if isinstance(node, Slice):
        return [node.value, node.first, node.last]
    return [node.expr] if isinstance(node, Cast) else []


def _compared(node: Node | None) -> list[tuple[Node, Node]]:
    if isinstance(node, Compare):
        return [(node.left, node.right)]
    return [(node.expr, node.low), (node.expr, node.high)] if isinstance(node, Between) else []
