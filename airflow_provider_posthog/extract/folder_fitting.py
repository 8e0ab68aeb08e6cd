"""Fit rows to the folder's other files: convert them to the same types, or set them aside with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError

#: The column that says why a row was set aside.
REASON = "_posthog_reason"
#: Rows that are set aside stay in memory until the end; more of them mean that the tables do not match.
_MOST = 10_000
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")
#: As an integer is written: no other text stands for the same value.
_NUMBER = r"^(?:0|-?[1-9][0-9]{0,17})$"


@dataclass
class FolderFit:
    """Makes rows fit into a folder.

    :param policy: ``evolve`` adds columns, and writes numbers in the folder's type while they fit; ``freeze`` adds
        none; ``quarantine`` keeps rows aside that have values which the folder has no column or no room for. ``None``
        changes nothing.
    :param known: the types of the folder's columns, as Arrow writes them.
    :param max_rejects: how many rows may be kept aside.
    :param rejects: rows that an earlier try has kept aside, as JSON.
    """

    policy: str | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    max_rejects: int | None = None
    rejects: list[str] = field(default_factory=list)

    def schema(self, coming: pa.Schema) -> pa.Schema:
        """Return the schema that the files are written with.

        :param coming: of the rows.
        :raises PostHogSettingsError: if there are new columns, and these are not to be added.
        """
        if self.policy is None or not self.known:
            return coming
        new = [name for name in coming.names if name not in self.known]
        if new and self.policy == "freeze":
            raise PostHogSettingsError(
                "schema_policy",
                f"is 'freeze', and the folder's files lack {', '.join(map(repr, new))}.",
                "Leave them out of columns, or write 'evolve'.",
            )
        if self.policy == "quarantine":
            coming = pa.schema([column for column in coming if column.name in self.known])
        if self.policy == "freeze":
            return coming
        return pa.schema([self._as_known(column) for column in coming])

    def _as_known(self, column: pa.Field) -> pa.Field:
        kind = _type_of(self.known.get(column.name, ""))
        return column.with_type(kind) if kind is not None and _converts(column.type, kind) else column

    def fit(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """Return the rows that fit, as the files have them; keep the others aside.

        :param table: the rows.
        :param schema: what :meth:`schema` has returned.
        :raises PostHogSettingsError: if a value does not fit, and is not to be kept aside.
        :raises PostHogIncompleteError: if too many rows are kept aside.
        """
        if table.schema.equals(schema):
            return table
        why: dict[str, pa.ChunkedArray] = {}
        for name in table.column_names:
            at = schema.get_field_index(name)
            column = table.column(name)
            bad = column.is_valid() if at < 0 else _misfits(column, schema.field(at).type)
            if bad is not None and pc.any(bad).as_py():
                why[
                    f"{name} is not a column of the folder"
                    if at < 0
                    else f"{name} does not fit {schema.field(at).type}"
                ] = bad
        if why:
            table = self._without(table, why)
        return table.select(schema.names).cast(schema)

    def _without(self, table: pa.Table, why: Mapping[str, pa.ChunkedArray]) -> pa.Table:
        if self.policy != "quarantine":
            raise PostHogSettingsError(
                "schema_policy",
                f"is {self.policy!r}, and a value does not fit: {'; '.join(why)}.",
                "Write 'quarantine'.",
            )
        bad = None
        for mask in why.values():
            bad = mask if bad is None else pc.or_(bad, mask)
        rows = table.filter(bad).to_pylist()
        reasons = {reason: mask.filter(bad).to_pylist() for reason, mask in why.items()}
        for at, row in enumerate(rows):
            reason = "; ".join(text for text, mask in reasons.items() if mask[at])
            self.rejects.append(json.dumps({**row, REASON: reason}, default=str, ensure_ascii=False))
        most = _MOST if self.max_rejects is None else self.max_rejects
        if len(self.rejects) > most:
            raise PostHogIncompleteError(
                f"{len(self.rejects):,} rows or more do not fit into the folder, and {most:,} may be set aside "
                "(max_rejects). Nothing was changed."
            )
        return table.filter(pc.invert(bad))


def _converts(coming: pa.DataType, known: pa.DataType) -> bool:
    """Return whether values of one type may be written as those of another, if each fits."""
    if coming.equals(known):
        return False
    numbers = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
    is_number = any(check(coming) for check in numbers)
    if pa.types.is_string(known):
        return bool(pa.types.is_integer(coming) or pa.types.is_boolean(coming))
    if pa.types.is_integer(known) and pa.types.is_string(coming):
        return True
    return is_number and any(check(known) for check in numbers)


def _misfits(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Return which values a type does not hold as they are; ``None`` if it holds all."""
    if column.type.equals(kind):
        return None
    if pa.types.is_string(column.type) and pa.types.is_integer(kind):
        fits = pc.match_substring_regex(column, _NUMBER)
        whole = pc.if_else(fits, column, None).cast(pa.int64())
        back = whole.cast(kind, safe=False).cast(pa.int64(), safe=False)
        return pc.invert(pc.fill_null(pc.and_(fits, pc.equal(back, whole)), pc.is_null(column)))
    try:
        return _changed(column, kind)
    except pa.ArrowInvalid:
        return pa.chunked_array([[value.is_valid and not _holds(value, kind) for value in column]], pa.bool_())


def _changed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Return which values come back as others: Arrow rounds to floats, and floats to decimals, without a word."""
    made, is_ = column.cast(kind), pa.types
    if not (is_.is_floating(kind) or (is_.is_floating(column.type) and is_.is_decimal(kind))):
        return None
    back = made.cast(column.type, safe=False)
    same = pc.equal(back, column)
    if pa.types.is_floating(column.type):
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(column)))
    return pc.fill_null(pc.invert(same), False)


def _holds(value: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        changed = _changed(pa.chunked_array([pa.array([value.as_py()], value.type)]), kind)
    except pa.ArrowInvalid:
        return False
    return changed is None or not pc.any(changed).as_py()


def _type_of(text: str) -> pa.DataType | None:
    """Return the type that Arrow writes as this text; ``None`` for one that nothing is converted to."""
    if match := _DECIMAL.fullmatch(text):
        return pa.decimal128(int(match[1]), int(match[2]))
    known: dict[str, Any] = {str(kind): kind for kind in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float32(), pa.float64(), pa.string(),
    )}  # fmt: skip
    return known.get(text)
