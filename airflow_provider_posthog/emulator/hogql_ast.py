"""The shapes a parsed HogQL query is made of.

Every node is one that this package knows how to print; text of the user never reaches ClickHouse in any other way.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Node:
    """Anything that can stand where a value stands."""


@dataclass
class Constant(Node):
    """A literal, or the value a placeholder was filled with: None, bool, int, float, str or a list of them."""

    value: object


@dataclass(frozen=True)
class Column:
    """What is known of a column or an expression.

    ``kind`` is json, datetime, date, number, integer, string, uuid or other: it decides on property access and on the
    overloads of ``toDateTime``.
    """

    kind: str
    nullable: bool = True


@dataclass
class Ref:
    """What a field name turned out to mean.

    ``table`` is the alias of its table, empty for aliases of expressions and arguments of lambdas; ``name`` its name
    in ClickHouse; ``properties`` the keys of the JSON value to read; ``in_zone`` is set for a DateTime64 column of a
    table, which is shown in the project's time zone.
    """

    table: str
    name: str
    column: Column
    properties: list[str] = field(default_factory=list)
    in_zone: bool = False
    number: bool = False


@dataclass
class Field(Node):
    """A dotted name such as ``e.properties.$browser``; ``*`` is its own part."""

    chain: list[str]
    ref: Ref | None = None
    # the expression that a name of a WITH clause stands for
    expansion: Node | None = None


@dataclass
class Call(Node):
    """A function call, with the parameters of parametric aggregations such as ``quantile(0.5)(x)``."""

    name: str
    args: list[Node]
    params: list[Node] | None = None
    distinct: bool = False


@dataclass
class Compare(Node):
    """A comparison; ``op`` is ClickHouse's function for it, such as ``equals`` or ``notIn``."""

    op: str
    left: Node
    right: Node


@dataclass
class Logic(Node):
    """``and``, ``or`` and ``not``."""

    op: str
    args: list[Node]


@dataclass
class Sequence(Node):
    """``[a, b]`` (op ``array``) or ``(a, b)`` (op ``tuple``)."""

    op: str
    items: list[Node]


@dataclass
class Index(Node):
    """``a[1]`` (op ``array``) or ``a.1`` (op ``tuple``)."""

    op: str
    value: Node
    index: Node


@dataclass
class Lambda(Node):
    """``(a, b) -> expression``."""

    args: list[str]
    body: Node


@dataclass
class Alias(Node):
    """``expression AS name``."""

    expr: Node
    name: str


@dataclass
class Order:
    """One entry of an ORDER BY."""

    expr: Node
    descending: bool = False


@dataclass
class Frame:
    """The frame of a window: ROWS or RANGE, and its one or two bounds, in SQL's own words."""

    method: str
    start: str
    end: str | None = None


@dataclass
class Window:
    """What stands in the parentheses after OVER."""

    partition_by: list[Node] = field(default_factory=list)
    order_by: list[Order] = field(default_factory=list)
    frame: Frame | None = None


@dataclass
class WindowCall(Node):
    """A function with OVER; ``over`` is a window, or the name of one."""

    call: Call
    over: Window | str


@dataclass
class Join:
    """A table, table function or sub-query of a FROM clause, and how it is joined to what stands before it."""

    table: list[str] | Select | SelectSet
    alias: str | None = None
    kind: str = ""
    constraint: Node | None = None
    using: list[Node] | None = None
    args: list[Node] | None = None
    final: bool = False
    sample: tuple[str, str | None] | None = None
    lazy: dict[str, LazyTable] = field(default_factory=dict)


@dataclass(frozen=True)
class LazyTable:
    """A table that a field such as ``person.properties`` brings in by itself, joined on two columns."""

    table: str
    left: str
    right: str


@dataclass
class Select(Node):
    """One SELECT."""

    columns: list[Node] = field(default_factory=list)
    ctes: dict[str, Node] = field(default_factory=dict)
    distinct: bool = False
    source: list[Join] = field(default_factory=list)
    array_join_kind: str = ""
    array_join: list[Node] = field(default_factory=list)
    prewhere: Node | None = None
    where: Node | None = None
    group_by: list[Node] = field(default_factory=list)
    having: Node | None = None
    windows: dict[str, Window] = field(default_factory=dict)
    order_by: list[Order] = field(default_factory=list)
    limit: Node | None = None
    offset: Node | None = None
    limit_by: list[Node] = field(default_factory=list)
    with_ties: bool = False


@dataclass
class SelectSet(Node):
    """SELECTs put together with UNION ALL."""

    members: list[Select | SelectSet]
