"""Values and rows that do not fit: values become null and are counted, rows go into quarantine with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect, Existing, family_of, fits
from airflow_provider_posthog.load.typed import Kind, kind_of, read, rounding

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_posthog.load.target import Target

#: The suffix of the quarantine's name, and its columns, which are all texts.
SUFFIX = "__rejected"
COLUMNS = ("rejected_at", "task", "run", "interval_start", "interval_end", "reason", "data")


class Rejects:
    """Converts values to the table's types, and removes rows that do not fit.

    :param target: where they go.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._kinds: dict[str, tuple[str, Kind, bool]] = {}
        self._unknown: list[str] = []
        self.rejected = 0
        self.misfits: dict[str, int] = {}
        #: The keys of the rows that the last :meth:`split` has taken out, if other rows may be gone.
        self.keys: pa.Table | None = None

    @property
    def quarantines(self) -> bool:
        """Whether rows that do not fit are set aside."""
        return self._target.schema_policy == "quarantine"

    def typed(self, schema: pa.Schema) -> pa.Schema:
        """Return a schema with the types that its texts are read as.

        :param schema: what comes.
        :raises PostHogSettingsError: if a column is not there, or its type is not known.
        """
        for name, (sql_type, raw) in self._target.casts.items():
            kind = kind_of(sql_type)
            if name not in schema.names or kind is None:
                problem = "which is not a column" if kind else f"with an unknown type: {sql_type:.60}"
                raise PostHogSettingsError(
                    "columns", f"have {name!r}, {problem}.", "Write one such as 'decimal(12,2)'."
                )
            self._kinds[name] = (sql_type, kind, raw)
            at = schema.get_field_index(name)
            schema = schema.set(at, schema.field(at).with_type(kind.type()))
        return schema

    def fitting(self, schema: pa.Schema, existing: Sequence[Existing], dialect: Dialect) -> pa.Schema:
        """Return a schema that fits into a table: rows that do not are taken out.

        :param schema: what comes, with the loader's own columns.
        :param existing: what the table has.
        :param dialect: the database's.
        """
        there = {dialect.fold(column.name): column.type for column in existing}
        for column in schema if existing else ():
            known = there.get(dialect.fold(column.name))
            if column.name in self._target.own:
                continue
            if known is None:
                if column.name in (*self._target.key, self._target.by):
                    raise PostHogSettingsError(
                        "schema_policy",
                        f"is 'quarantine', and the table lacks {column.name!r}, the key or time.",
                        "Add it.",
                    )
                self._unknown.append(column.name)
                schema = schema.remove(schema.get_field_index(column.name))
                continue
            kind = kind_of(known, bits=dialect.bits)
            if kind is not None and (_is_narrow(column, known, kind) or not fits(column, known, dialect)):
                raw = self._target.casts.get(column.name, ("", False))[1]
                if family_of(column) == "float" and kind.arrow[0] == "decimal":
                    kind = rounding(kind)
                self._kinds[column.name] = (known, kind, raw)
                schema = schema.set(schema.get_field_index(column.name), column.with_type(kind.type()))
        return schema

    def split(self, table: pa.Table) -> tuple[pa.Table, list[tuple[str, str]]]:
        """Return the rows that fit, and the others as reason and JSON.

        :param table: what comes.
        :raises PostHogLoadError: if too many do not fit.
        """
        self.keys = None
        if not self._kinds and not self._unknown:
            return table, []
        why: dict[str, pa.ChunkedArray] = {}
        made = table
        for name, (sql_type, kind, raw) in self._kinds.items():
            values, misfits = read(table.column(name), kind, raw=raw)
            column = table.schema.field(name)
            if (number := _count(misfits)) and self.quarantines:
                why[f"{name} does not fit {sql_type}"] = misfits
            elif number:
                self.misfits[name] = self.misfits.get(name, 0) + number
            made = made.set_column(made.schema.get_field_index(name), column.with_type(values.type), values)
        for name in self._unknown:
            if table.num_rows > table.column(name).null_count:
                why[f"{name} is not a column of the table"] = table.column(name).is_valid()
        made = made.drop_columns(self._unknown) if self._unknown else made
        return self._taken_out(table, made, why)

    def _taken_out(
        self, table: pa.Table, made: pa.Table, why: Mapping[str, pa.ChunkedArray]
    ) -> tuple[pa.Table, list[tuple[str, str]]]:
        import pyarrow.compute as pc

        out: list[tuple[str, str]] = []
        if why:
            bad = None
            for mask in why.values():
                bad = mask if bad is None else pc.or_(bad, mask)
            reasons = {reason: mask.filter(bad).to_pylist() for reason, mask in why.items()}
            rows = table.filter(bad).to_pylist()
            for at, row in enumerate(rows):
                reason = "; ".join(text for text, mask in reasons.items() if mask[at])
                out.append((reason, json.dumps(row, default=str, ensure_ascii=False)))
            if self._target.deleted != "keep":  # a key that does not fit is null; no row of the table has it
                self.keys = made.filter(bad).select(list(self._target.key)).drop_null()
            made = made.filter(pc.invert(bad))
        self.rejected += len(out)
        self._check()
        return made, out

    def _check(self) -> None:
        most = self._target.max_rejects
        if most is None:
            most = None if self.quarantines else 0
        number = self.rejected + sum(self.misfits.values())
        if most is None or number <= most:
            return
        named = ", ".join(f"{name}: {count:,}" for name, count in self.misfits.items())
        what = f"{self.rejected:,} rows" if self.quarantines else f"{number:,} values ({named})"
        raise PostHogLoadError(
            f"{what} or more do not fit their columns, and max_rejects is {most:,}. Nothing was changed. Write another "
            "type in columns, or a larger max_rejects."
        )

    def common_values(self) -> tuple[str, ...]:
        """Return the values in all rejected rows of this load: all columns except the last two."""
        return (self._target.now.isoformat(), self._target.label, self._target.run, *self.edges)

    @property
    def edges(self) -> tuple[str, str]:
        """The interval of the load, as texts; empty if a whole table is read."""
        if self._target.by is None or self._target.start is None or self._target.end is None:
            return "", ""
        return self._target.start.isoformat(), self._target.end.isoformat()

    def is_read_again(self, data: str) -> bool:
        """Return whether a rejected row is of this load's interval, by its time.

        :param data: the row, as JSON.
        """
        try:
            moment = datetime.fromisoformat(str(json.loads(data)[self._target.by]).replace("Z", "+00:00"))
        except (ValueError, LookupError, TypeError):
            return False
        start, end = self._target.start, self._target.end
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return start is not None and end is not None and start <= moment < end


def _is_narrow(column: pa.Field, sql_type: str, kind: Kind) -> bool:
    """Return whether a type does not hold all values of its family."""
    if kind.arrow[0] == "bool":
        return family_of(column) != "boolean"
    text = sql_type.strip().lower()
    short = text.partition("(")[0].strip()
    if short in ("uuid", "json", "jsonb"):
        return True
    if kind.arrow[0] == "decimal":
        return _has_more_digits(column, kind) and "(" in text
    return kind.arrow[0] == "int64" or (kind.arrow[0] == "string" and "(" in text)


def _has_more_digits(column: pa.Field, kind: Kind) -> bool:
    """Return whether numbers can be too big for a decimal."""
    if family_of(column) != "decimal":
        return family_of(column) in ("integer", "unsigned", "float")
    _, precision, scale = kind.arrow
    return int(column.type.precision - column.type.scale) > precision - scale


def _count(mask: pa.ChunkedArray) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(mask).as_py() or 0)
