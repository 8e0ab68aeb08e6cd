"""Read answers that are rows already: SQL, and tables of events and persons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Selected = tuple[tuple[str, ...], list[tuple[Any, ...]], list[list[str]] | None]


def as_selected(insight: Mapping[str, Any], result: Sequence[Sequence[Any]]) -> Selected:
    """Return columns, rows and types of an answer that is rows already.

    :param insight: the answer.
    :param result: its rows.
    :raises ValueError: if rows have other lengths than there are columns.
    """
    width = len(result[0]) if result else len(insight.get("columns") or ())
    columns = _unique(insight.get("columns") or [f"column_{number}" for number in range(width)])
    if any(len(row) != len(columns) for row in result):
        raise ValueError("rows of another length")
    types = _pairs_of(columns, insight.get("types"))
    return columns, [tuple(map(_scalar, row)) for row in result], types


def _unique(names: Sequence[Any]) -> tuple[str, ...]:
    """Add numbers to columns that are selected twice under one name: ``n``, ``n_2``."""
    unique: list[str] = []
    for name in map(str, names):
        candidate, number = name, 1
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return tuple(unique)


def _pairs_of(columns: Sequence[str], types: object) -> list[list[str]] | None:
    """Return the types under the columns' names; a table of events has types without names."""
    if not isinstance(types, list) or len(types) != len(columns):
        return None
    kinds = [kind[1] if isinstance(kind, (list, tuple)) and len(kind) == 2 else kind for kind in types]
    return [[name, str(kind)] for name, kind in zip(columns, kinds, strict=True)]


def _scalar(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
