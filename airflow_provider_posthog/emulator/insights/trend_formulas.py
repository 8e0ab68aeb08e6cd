"""Formulas over the series of a trend, such as ``A / B * 100``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def read_formulas(options: Json) -> list[tuple[str, str | None]]:
    """Return the formulas of a trend, each with its own name, from any of the fields that PostHog has had for them.

    :param options: its ``trendsFilter``.
    """
    nodes = options.get("formulaNodes") or options.get("formulas") or [options.get("formula")]
    formulas = []
    for node in nodes if isinstance(nodes, list) else []:
        text = node.get("formula") if isinstance(node, dict) else node
        name = node.get("custom_name") if isinstance(node, dict) else None
        if text:
            formulas.append((str(text), str(name) if name else None))
    return formulas


def evaluate(formula: str, numbers: Mapping[str, float]) -> float:
    """Calculate a formula; a division by zero gives 0, as at PostHog.

    :param formula: letters stand for series, in their order.
    :param numbers: of each series.
    :raises ApiError: 400 for what is not a formula.
    """
    try:
        return _value(ast.parse(formula.strip(), mode="eval").body, numbers)
    except ZeroDivisionError:
        return 0
    except (SyntaxError, ValueError, KeyError, RecursionError, OverflowError):
        raise invalid(f"The formula {formula!r} is not valid.") from None


def _value(node: ast.expr, numbers: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.Name):
        return numbers[node.id.upper()]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, numbers)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        try:
            return _OPERATORS[type(node.op)](left, right)
        except ZeroDivisionError:
            return 0
    raise ValueError(node)


def apply(formulas: Sequence[tuple[str, str | None]], series: Sequence[Sequence[Json]]) -> list[Json]:
    """Make the entries of formulas out of those of the series.

    :param formulas: from :func:`read_formulas`.
    :param series: the entries of each series, by its breakdown; what is missing counts as 0.
    """
    keys: dict[str, Json] = {}
    for items in series:
        for item in items:
            keys.setdefault(_key(item), item)
    by_letter = [(chr(ord("A") + index), {_key(item): item for item in items}) for index, items in enumerate(series)]
    applied = []
    for order, (formula, name) in enumerate(formulas):
        for key, model in keys.items():
            parts = {letter: items.get(key) for letter, items in by_letter}
            applied.append(_entry(formula, name, order, model, parts))
    return applied


def _key(item: Json) -> str:
    return repr((item.get("breakdown_value"), item.get("compare_label")))


def _entry(formula: str, name: str | None, order: int, model: Json, parts: Mapping[str, Json | None]) -> Json:
    label = model["label"] if "breakdown_value" in model else name or f"Formula ({formula})"
    made = {**model, "action": None, "order": order, "label": label}
    if "aggregated_value" in model:
        numbers = {letter: float(part["aggregated_value"] or 0) if part else 0.0 for letter, part in parts.items()}
        return {**made, "aggregated_value": evaluate(formula, numbers)}
    data = [
        evaluate(formula, {letter: float(part["data"][index] or 0) if part else 0.0 for letter, part in parts.items()})
        for index in range(len(model["data"]))
    ]
    return {**made, "data": data, "count": sum(data)}
