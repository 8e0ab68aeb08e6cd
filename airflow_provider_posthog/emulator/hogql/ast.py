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
    # what ClickHouse calls it, if that is something else
    name: str = ""


@dataclass
class Ref:
    """What a field name turned out to mean.

    ``table`` is the alias of its table, empty for aliases of expressions and arguments of lambdas; ``name`` its name
    in ClickHouse; ``origin`` the name of the table itself; ``properties`` the keys of the JSON value to read;
    ``in_zone`` is set for a DateTime64 column of a table, which is shown in the project's time zone. ``expression``
    is what is written instead of the name, for a column that is worked out.
    """

    table: str
    name: str
    column: Column
    properties: list[str | int] = field(default_factory=list)
    in_zone: bool = False
    number: bool = False
    origin: str = ""
    expression: Node | None = None


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
    order_by: list[Order] = field(default_factory=list)
    within_group: list[Order] = field(default_factory=list)
    filter: Node | None = None
    # written as an operator, so that the column has no name
    infix: bool = False


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
    """``a[1]`` (op ``array``), ``a.1`` (op ``tuple``), or a property (op ``member``), which the value says already."""

    op: str
    value: Node
    index: Node
    nullish: bool = False


@dataclass
class Slice(Node):
    """``a[1:2]``: both ends are part of it, and either may be missing."""

    value: Node
    first: Node | None = None
    last: Node | None = None


@dataclass
class Between(Node):
    """``a BETWEEN low AND high``."""

    expr: Node
    low: Node
    high: Node
    negated: bool = False


@dataclass
class Distinct(Node):
    """``a IS DISTINCT FROM b``; negated, ``a IS NOT DISTINCT FROM b``."""

    left: Node
    right: Node
    negated: bool = False


@dataclass
class Cast(Node):
    """``CAST(a AS type)`` and ``a::type``; ``attempt`` is ``TRY_CAST``. The type is in lower case."""

    expr: Node
    type: str
    attempt: bool = False


@dataclass
class Placeholder(Node):
    """``{expression}``, which a value takes the place of; or a query, in a set of queries."""

    expr: Node


@dataclass
class Dict(Node):
    """``{'key': value}``."""

    items: list[tuple[Node, Node]]


@dataclass
class Tag(Node):
    """A HogQLX tag: its attributes by name; its children are the attribute ``children``, a list."""

    kind: str
    attributes: dict[str, Node | list[Node]]


@dataclass
class Apply(Node):
    """A call of something that is not a name: ``a.b(c)``, ``(x -> x)(1)``."""

    expr: Node
    args: list[Node]


@dataclass
class Columns(Node):
    """``COLUMNS(...)`` and ``* EXCLUDE (...)``: several columns at once.

    ``names`` are expressions, ``regex`` a pattern of names; else they are all columns, but for those of ``exclude`` and
    with those of ``replace`` computed.
    """

    names: list[Node] | None = None
    regex: str | None = None
    exclude: list[str] = field(default_factory=list)
    replace: dict[str, Node] = field(default_factory=dict)
    spread: bool = False


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
class Fill:
    """``WITH FILL FROM low TO high STEP step``."""

    low: Node | None = None
    high: Node | None = None
    step: Node | None = None


@dataclass
class Order:
    """One entry of an ORDER BY."""

    expr: Node
    descending: bool = False
    fill: Fill | None = None


@dataclass
class Bound:
    """One bound of a window's frame: ``CURRENT ROW``, or ``PRECEDING`` or ``FOLLOWING`` and by how much (None: all)."""

    kind: str
    size: Node | None = None


@dataclass
class Frame:
    """The frame of a window: ROWS or RANGE, and its one or two bounds."""

    method: str
    start: Bound
    end: Bound | None = None


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

    table: list[str] | Node
    alias: str | None = None
    names: list[str] = field(default_factory=list)
    kind: str = ""
    constraint: Node | None = None
    using: list[Node] | None = None
    args: list[Node] | None = None
    final: bool = False
    sample: tuple[str | Node, str | Node | None] | None = None
    lazy: dict[str, LazyTable] = field(default_factory=dict)


@dataclass(frozen=True)
class LazyTable:
    """A table that a field such as ``person.properties`` brings in by itself, joined on two columns."""

    table: str
    left: str
    right: str
    join: str = "LEFT OUTER JOIN"


@dataclass
class Cte:
    """A name of a WITH clause: of a query, or of an expression where ``is_column``."""

    expr: Node
    is_column: bool = False
    names: list[str] = field(default_factory=list)
    recursive: bool = False
    materialized: bool | None = None


@dataclass
class LimitBy:
    """``LIMIT n BY a, b``: so many rows of each kind."""

    count: Node
    by: list[Node]
    offset: Node | None = None


@dataclass
class Limits:
    """What ends a SELECT, or several of them: LIMIT and OFFSET."""

    limit: Node | None = None
    offset: Node | None = None
    with_ties: bool = False
    percent: bool = False


@dataclass
class Values(Node):
    """``VALUES (1, 'a'), (2, 'b')``."""

    rows: list[list[Node]]


@dataclass
class Pivot(Node):
    """A table that PIVOT or UNPIVOT turns: no more than that it is one, since ClickHouse has neither."""

    word: str


@dataclass
class Select(Node):
    """One SELECT; ``group_mode`` is empty, ``all``, ``rollup``, ``cube`` or ``grouping_sets``."""

    columns: list[Node] = field(default_factory=list)
    ctes: dict[str, Cte] = field(default_factory=dict)
    distinct: bool = False
    source: list[Join] = field(default_factory=list)
    array_join_kind: str = ""
    array_join: list[Node] = field(default_factory=list)
    prewhere: Node | None = None
    where: Node | None = None
    group_by: list[Node] = field(default_factory=list)
    group_mode: str = ""
    having: Node | None = None
    qualify: Node | None = None
    windows: dict[str, Window] = field(default_factory=dict)
    order_by: list[Order] = field(default_factory=list)
    interpolate: dict[str, Node | None] | None = None
    limit_by: LimitBy | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass
class SelectSet(Node):
    """SELECTs put together; ``operators`` stand between the members: ``UNION ALL``, ``EXCEPT`` and so on."""

    members: list[Node]
    operators: list[str]
    limits: Limits = field(default_factory=Limits)
