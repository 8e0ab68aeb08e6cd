"""The trees of the emulator's parser and of PostHog's own, in one form that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from airflow_provider_posthog.emulator.hogql import ast as ast
from airflow_provider_posthog.emulator.hogql.select import SelectParser

Tree = Any
_OPERATORS = {
    "==": "equals",
    "!=": "notEquals",
    "<": "less",
    "<=": "lessOrEquals",
    ">": "greater",
    ">=": "greaterOrEquals",
    "in": "in",
    "not in": "notIn",
    "in cohort": "inCohort",
    "not in cohort": "notInCohort",
    "like": "like",
    "not like": "notLike",
    "ilike": "ilike",
    "not ilike": "notILike",
    "=~": "match",
    "!~": "notMatch",
    "=~*": "imatch",
    "!~*": "notIMatch",
}
_ARITHMETIC = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo"}


def read(sql: str, *, newer: bool = True) -> Tree:
    """Parse a statement with the emulator's parser.

    :param sql: HogQL.
    :param newer: as servers of 2025 and later read it.
    :raises HogQLError: if it is refused.
    """
    return ours(SelectParser(sql, newer=newer).query())


def ours(value: object) -> Tree:
    """Make plain lists of the emulator's tree: the name of each node, and what it has that is not empty."""
    if isinstance(value, list):
        return [ours(item) for item in value]
    if isinstance(value, tuple):
        return [ours(item) for item in value]
    if isinstance(value, dict):
        return {key: ours(item) for key, item in value.items()}
    if isinstance(value, ast.Constant):
        return ["Constant", _plain(value.value)]
    if isinstance(value, ast.Call) and value.name in _COMPARED and len(value.args) == 2 and value.params is None:
        return ["Compare", {"op": value.name, "left": ours(value.args[0]), "right": ours(value.args[1])}]
    if is_dataclass(value) and not isinstance(value, type):
        members = {each.name: ours(getattr(value, each.name)) for each in fields(value) if each.name != "infix"}
        return [type(value).__name__, {name: item for name, item in members.items() if not _is_empty(item)}]
    return value


_COMPARED = frozenset(_OPERATORS.values()) - {"imatch", "match", "notMatch", "notIMatch", "inCohort", "notInCohort"}


def _plain(value: object) -> object:
    return repr(value) if isinstance(value, (float, bool)) else value


def _is_empty(item: object) -> bool:
    return item is None or item is False or item == "" or item == [] or item == {} or item in (["Limits", {}],)


def theirs(node: Tree) -> Tree:
    """Make the same of PostHog's tree."""
    if isinstance(node, list):
        return [theirs(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "node" not in node:
        return {key: theirs(item) for key, item in node.items()}
    kind = node["node"]
    made = _MAKERS.get(kind)
    if made is None:
        raise AssertionError(f"PostHog's parser has a node that this test does not know: {kind}")
    return made(node)


def _node(node_kind: str, **members: object) -> Tree:
    return [node_kind, {key: item for key, item in members.items() if not _is_empty(item)}]


def _constant(node: Tree) -> Tree:
    value = node["value"]
    if node.get("value_type") == "number":
        numbers = {"Infinity": float("inf"), "-Infinity": -float("inf"), "NaN": float("nan")}
        value = numbers[value] if value in numbers else int(value)
    return ["Constant", _plain(value)]


def _call(node: Tree) -> Tree:
    name, args = node["name"], theirs(node.get("args") or [])
    params = node.get("params")
    if name in _COMPARED and len(args) == 2 and params is None:
        return _node("Compare", op=name, left=args[0], right=args[1])
    return _node(
        "Call",
        name=name,
        args=args,
        params=None if params is None else theirs(params),
        distinct=bool(node.get("distinct")),
        order_by=theirs(node.get("order_by") or []),
        within_group=theirs(node.get("within_group") or []),
        filter=theirs(node.get("filter_expr")),
    )


def _window_call(node: Tree) -> Tree:
    args, exprs = node.get("args"), node.get("exprs") or []
    call = {"node": "Call", "name": node["name"], "args": args if args else exprs, "params": exprs if args else None}
    over = node["over_identifier"] if node.get("over_identifier") else theirs(node["over_expr"])
    return _node("WindowCall", call=_call(call), over=over)


def _window(node: Tree) -> Tree:
    frame = None
    if node.get("frame_method"):
        start, end = _bound(node["frame_start"]), node.get("frame_end")
        frame = _node("Frame", method=node["frame_method"], start=start, end=_bound(end) if end else None)
    return _node(
        "Window",
        partition_by=theirs(node.get("partition_by") or []),
        order_by=theirs(node.get("order_by") or []),
        frame=frame,
    )


def _bound(node: Tree) -> Tree:
    size = node.get("frame_value")
    return _node("Bound", kind=node["frame_type"], size=["Constant", size] if isinstance(size, int) else theirs(size))


def _limits(node: Tree) -> Tree:
    made = _node(
        "Limits",
        limit=theirs(node.get("limit")),
        offset=theirs(node.get("offset")),
        with_ties=bool(node.get("limit_with_ties")),
        percent=bool(node.get("limit_percent")),
    )
    return None if made == ["Limits", {}] else made


def _select(node: Tree) -> Tree:
    limit_by, array_join = node.get("limit_by"), node.get("array_join_list")
    interpolate = node.get("interpolate")
    group_by = theirs(node.get("group_by") or [])
    return _node(
        "Select",
        columns=theirs(node["select"]),
        ctes=_ctes(node.get("ctes") or {}),
        distinct=bool(node.get("distinct")),
        source=_joins(node.get("select_from")),
        array_join_kind=node.get("array_join_op") or "",
        array_join=theirs(array_join or []),
        prewhere=theirs(node.get("prewhere")),
        where=theirs(node.get("where")),
        group_by=group_by,
        group_mode=node.get("group_by_mode") or "",
        having=theirs(node.get("having")),
        qualify=theirs(node.get("qualify")),
        windows=theirs(node.get("window_exprs") or {}),
        order_by=theirs(node.get("order_by") or []),
        interpolate={each["expr"]["chain"][0]: theirs(each.get("value")) for each in interpolate or []},
        limit_by=None
        if limit_by is None
        else _node(
            "LimitBy",
            count=theirs(limit_by["n"]),
            by=theirs(limit_by["exprs"]),
            offset=theirs(limit_by.get("offset_value")),
        ),
        limits=_limits(node),
    )


def _ctes(ctes: Tree) -> Tree:
    listed = ctes if isinstance(ctes, list) else list(ctes.values())
    return {
        cte["name"]: _node(
            "Cte",
            expr=theirs(cte["expr"]),
            is_column=cte["cte_type"] == "column",
            names=cte.get("columns") or [],
            recursive=bool(cte.get("recursive")),
            materialized=cte.get("materialized"),
        )
        for cte in listed
    }


def _joins(join: Tree) -> list[Tree]:
    found = []
    while join is not None:
        found.append(_join(join))
        join = join.get("next_join")
    return found


def _join(join: Tree) -> Tree:
    constraint, table, sample = join.get("constraint"), join["table"], join.get("sample")
    using = None
    if constraint is not None and constraint["constraint_type"] == "USING":
        items = theirs(constraint["expr"])
        using = items[1]["items"] if items[0] == "Sequence" else [items]
        constraint = None
    args = join.get("table_args")
    return _node(
        "Join",
        table=table["chain"] if table["node"] == "Field" else theirs(table),
        alias=join.get("alias"),
        names=join.get("column_aliases") or [],
        kind=join.get("join_type") or "",
        constraint=theirs(constraint["expr"]) if constraint else None,
        using=using,
        args=None if args is None else theirs(args),
        final=bool(join.get("table_final")),
        sample=None if sample is None else [_ratio(sample["sample_value"]), _ratio(sample.get("offset_value"))],
    )


def _ratio(node: Tree) -> Tree:
    if node is None:
        return None
    if node["node"] == "Placeholder":
        return theirs(node)
    right = node.get("right")
    return f"{node['left']['value']}" + (f"/{right['value']}" if right else "")


def _set(node: Tree) -> Tree:
    further = node["subsequent_select_queries"]
    return _node(
        "SelectSet",
        members=[theirs(node["initial_select_query"]), *(theirs(each["select_query"]) for each in further)],
        operators=[each["set_operator"] for each in further],
        limits=_limits(node),
    )


def _fill(node: Tree) -> Tree:
    if node is None:
        return None
    parts = {"low": "from_value", "high": "to_value", "step": "step_value"}
    return _node("Fill", **{ours_: theirs(node.get(name)) for ours_, name in parts.items()})


def _logic(op: str) -> Callable[[Tree], Tree]:
    return lambda node: _node("Logic", op=op, args=theirs(node["exprs"]) if "exprs" in node else [theirs(node["expr"])])


def _index(node: Tree) -> Tree:
    if node["node"] == "TupleAccess":
        value, index = node["tuple"], ["Constant", node["index"]]
    else:
        value, index = node["array"], theirs(node["property"])
    op = "tuple" if node["node"] == "TupleAccess" else "array"
    return _node("Index", op=op, value=theirs(value), index=index, nullish=bool(node.get("nullish")))


def _columns(node: Tree) -> Tree:
    names = node.get("columns")
    return _node(
        "Columns",
        names=None if names is None else theirs(names),
        regex=node.get("regex"),
        exclude=node.get("exclude") or [],
        replace=theirs(node.get("replace") or {}),
    )


def _tag(node: Tree) -> Tree:
    return _node(
        "Tag", kind=node["kind"], attributes={each["name"]: theirs(each["value"]) for each in node["attributes"]}
    )


def _spread(node: Tree) -> Tree:
    name, members = theirs(node["expr"])
    return [name, {**members, "spread": True}]


_MAKERS: dict[str, Callable[[Tree], Tree]] = {
    "Constant": _constant,
    "Field": lambda node: _node("Field", chain=node["chain"]),
    "Call": _call,
    "WindowFunction": _window_call,
    "WindowExpr": _window,
    "SelectQuery": _select,
    "SelectSetQuery": _set,
    "ValuesQuery": lambda node: _node("Values", rows=theirs(node["rows"])),
    "PivotExpr": lambda node: _node("Pivot", word="PIVOT"),
    "UnpivotExpr": lambda node: _node("Pivot", word="UNPIVOT"),
    "CompareOperation": lambda node: _node(
        "Compare", op=_OPERATORS[node["op"]], left=theirs(node["left"]), right=theirs(node["right"])
    ),
    "ArithmeticOperation": lambda node: _node(
        "Call", name=_ARITHMETIC[node["op"]], args=[theirs(node["left"]), theirs(node["right"])]
    ),
    "And": _logic("and"),
    "Or": _logic("or"),
    "Not": _logic("not"),
    "BetweenExpr": lambda node: _node(
        "Between",
        expr=theirs(node["expr"]),
        low=theirs(node["low"]),
        high=theirs(node["high"]),
        negated=bool(node.get("negated")),
    ),
    "IsDistinctFrom": lambda node: _node(
        "Distinct", left=theirs(node["left"]), right=theirs(node["right"]), negated=bool(node.get("negated"))
    ),
    "Array": lambda node: _node("Sequence", op="array", items=theirs(node["exprs"])),
    "Tuple": lambda node: _node("Sequence", op="tuple", items=theirs(node["exprs"])),
    "GroupingSet": lambda node: _node("Sequence", op="tuple", items=theirs(node["exprs"])),
    "ArrayAccess": _index,
    "TupleAccess": _index,
    "ArraySlice": lambda node: _node(
        "Slice", value=theirs(node["array"]), first=theirs(node.get("start_expr")), last=theirs(node.get("end_expr"))
    ),
    "Lambda": lambda node: _node("Lambda", args=node["args"], body=theirs(node["expr"])),
    "Alias": lambda node: _node("Alias", expr=theirs(node["expr"]), name=node["alias"]),
    "OrderExpr": lambda node: _node(
        "Order",
        expr=theirs(node["expr"]),
        descending=node["order"] == "DESC",
        fill=_fill(node.get("with_fill")),
    ),
    "TypeCast": lambda node: _node("Cast", expr=theirs(node["expr"]), type=node["type_name"]),
    "TryCast": lambda node: _node("Cast", expr=theirs(node["expr"]), type=node["type_name"], attempt=True),
    "Placeholder": lambda node: _node("Placeholder", expr=theirs(node["expr"])),
    "Dict": lambda node: _node("Dict", items=theirs(node["items"])),
    "ExprCall": lambda node: _node("Apply", expr=theirs(node["expr"]), args=theirs(node.get("args") or [])),
    "ColumnsExpr": _columns,
    "SpreadExpr": _spread,
    "HogQLXTag": _tag,
}
