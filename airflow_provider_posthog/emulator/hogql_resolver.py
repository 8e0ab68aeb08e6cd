"""Gives every name of a parsed query its meaning, or refuses it as PostHog does."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.hogql_ast import (
    Alias,
    Call,
    Column,
    Compare,
    Constant,
    Field,
    Index,
    Join,
    Lambda,
    LazyTable,
    Logic,
    Node,
    Ref,
    Select,
    SelectSet,
    Sequence,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_kinds import kind_of, refuse_text_as_time
from airflow_provider_posthog.emulator.hogql_schema import NUMBERS, TABLES, Link, Table

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

    ctes: dict[str, Node]
    sources: list[_Source] = field(default_factory=list)
    aliases: dict[str, Column] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)


class Resolver:
    """Walks a tree once and fills in every :class:`Field`'s ``ref``; ``*`` becomes the columns it stands for.

    :param without: tables that this server does not have
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self.scope = _Scope({})
        self._without = without

    def query(self, node: Select | SelectSet, ctes: dict[str, Node] | None = None) -> dict[str, Column]:
        """Resolve a query.

        :param node: the tree, changed in place
        :param ctes: the WITH names of the queries around it
        :returns: its named output columns
        :raises HogQLError: for an unknown table or field
        """
        if isinstance(node, SelectSet):
            outputs = [self.query(member, ctes) for member in node.members]
            return outputs[0]
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
        node.columns = [column for item in node.columns for column in self._starred(item)]
        for column in node.columns:
            self._visit(column)
        for expression in (node.prewhere, node.where, *node.group_by, node.having, node.limit, node.offset):
            self._visit(expression)
        for window in node.windows.values():
            self._window(window)
        for item in [*(order.expr for order in node.order_by), *node.limit_by]:
            self._visit(item)
        return {name: kind_of(column) for column in node.columns if (name := output_name(column))}

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
        if isinstance(join.table, list):
            name = join.table[0]
            cte = self.scope.ctes.get(name)
            if not isinstance(cte, (Select, SelectSet)) or len(join.table) > 1:
                return _Source(join.alias or join.table[-1], join, self._table(join.table, join.args))
            join.table, join.alias = copy.deepcopy(cte), join.alias or name
            # a WITH name may use other names, never itself
            others = {key: query for key, query in self.scope.ctes.items() if key != name}
            return _Source(join.alias, join, outputs=self.query(join.table, others))
        return _Source(join.alias or "", join, outputs=self.query(join.table, self.scope.ctes))

    def _table(self, chain: list[str], args: list[Node] | None) -> Table:
        name = ".".join(chain)
        table = None if name in self._without else TABLES.get(name)
        if table is None:
            raise HogQLError(f'Unknown table "{chain[0]}".')
        if table.name == "numbers":
            if not args or len(args) > 2:
                raise HogQLError("Table function 'numbers' requires arguments: 1 or 2 numbers")
        elif args is not None:
            raise HogQLError(f"Table '{table.name}' does not accept arguments")
        return table

    def _starred(self, item: Node) -> list[Node]:
        if not isinstance(item, Field) or item.chain[-1] != "*":
            return [item]
        sources = self.scope.sources
        if len(item.chain) > 1:
            sources = [source for source in sources if source.alias == item.chain[0]]
        if not sources:
            raise HogQLError("Cannot use '*' when there are no tables in the query")
        if len(sources) > 1:
            raise HogQLError("Cannot use '*' without table name when there are multiple tables in the query")
        prefix = item.chain[:-1]
        return [Field([*prefix, name]) for name in sources[0].star()]

    # -- expressions ---------------------------------------------------------------------------------------------

    def _visit(self, node: Node | None) -> None:
        if isinstance(node, Field):
            self._field(node)
        elif isinstance(node, (Select, SelectSet)):
            self.query(node, self.scope.ctes)
        elif isinstance(node, Alias):
            self._visit(node.expr)
            if node.name in self.scope.aliases:
                raise HogQLError(f"Cannot redefine an alias with the name: {node.name}")
            self.scope.aliases[node.name] = kind_of(node.expr)
        elif isinstance(node, Lambda):
            self.scope.arguments[:0] = node.args
            self._visit(node.body)
            del self.scope.arguments[: len(node.args)]
        elif isinstance(node, WindowCall):
            self._visit(node.call)
            if isinstance(node.over, Window):
                self._window(node.over)
        else:
            for child in _children(node):
                self._visit(child)
            if isinstance(node, Compare):
                refuse_text_as_time(node.left, node.right)

    def _window(self, window: Window) -> None:
        for item in [*window.partition_by, *(order.expr for order in window.order_by)]:
            self._visit(item)

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
        node.expansion = copy.deepcopy(self.scope.ctes[name])
        if isinstance(node.expansion, (Select, SelectSet)):
            raise HogQLError(f"Unable to resolve field: {name}")
        held = self.scope.ctes.pop(name)
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
        kind = table.fields.get(chain[0])
        if kind is None:
            raise HogQLError(f"Field not found: {chain[0]}")
        if isinstance(kind, Link):
            if len(chain) == 1:
                raise HogQLError(f"Can't select a table when a column is expected: {chain[0]}")
            linked = f"{alias}__{chain[0]}"
            join.lazy[linked] = LazyTable(kind.table, f"{alias}.{kind.left}", kind.right)
            return self._table_member(TABLES[kind.table], linked, join, chain[1:])
        ref = Ref(alias, chain[0], kind, in_zone=kind.kind == "datetime")
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
        ref.properties, ref.column = keys, Column("string")
        return ref


def output_name(column: Node) -> str:
    """Tell the name of an output column, empty if it has none but its text.

    :param column: an expression of a SELECT's list, resolved
    """
    if isinstance(column, Alias):
        return column.name
    if isinstance(column, Field) and column.expansion is None:
        return "__".join(column.ref.properties) if column.ref and column.ref.properties else column.chain[-1]
    return ""


def _children(node: Node | None) -> list[Node]:
    if isinstance(node, Call):
        return [*(node.params or []), *node.args]
    if isinstance(node, Compare):
        return [node.left, node.right]
    if isinstance(node, Logic):
        return node.args
    if isinstance(node, Sequence):
        return node.items
    if isinstance(node, Index):
        return [node.value, node.index]
    return []


def constant_int(node: Node | None) -> int | None:
    """Tell the whole number a LIMIT says, None if it is an expression.

    :param node: the expression
    """
    if isinstance(node, Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    return None
