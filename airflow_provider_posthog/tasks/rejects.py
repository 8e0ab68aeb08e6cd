"""Where a load says which rows are not in PostHog, and why: a file, a table, or both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.result_file import Output
from airflow_provider_posthog.tasks.small_table import SmallTable

if TYPE_CHECKING:
    from airflow_provider_posthog.capture.ledger import Reject
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.identity import Identity

#: The table's columns. A task's rows are those of its run: they are replaced when it is run again.
COLUMNS = {
    **{"rejected_at": "time", "task": "text", "run": "text"},
    **{"row": "int", "uuid": "text", "key": "text", "reason": "text"},
}


@dataclass(frozen=True)
class Rejects:
    """What a task says of rows that are not in PostHog.

    :param output: the file.
    :param table: the table.
    """

    output: Output | None
    table: SmallTable | None

    @property
    def where(self) -> str | None:
        """What names each row, for an error; ``None`` if nothing does."""
        if self.output is not None:
            return str(self.output.target)
        return None if self.table is None else f"The table {self.table.table}"

    def check(self) -> None:
        """Make sure that both can be written, before anything is sent."""
        if self.output is not None:
            self.output.check("s3://bucket/rejects/{{ ds }}.jsonl")
        if self.table is not None:
            self.table.check()

    def write(self, rejects: Iterable[Reject], names: Sequence[str], identity: Identity) -> None:
        """Write both, in place of what an earlier try has written.

        :param rejects: what is not in PostHog; may be read twice.
        :param names: of the key's columns.
        :param identity: the task's.
        """
        from airflow_provider_posthog.capture.load import lines_of, report_of

        kept = list(rejects) if self.output is not None and self.table is not None else rejects
        if self.output is not None:
            with self.output.atomic_file(identity) as atomic:
                for line in lines_of(kept, names):
                    atomic.write(line)
                atomic.finish()
                self.output.commit(atomic)
        if self.table is not None:
            own, now = tuple(str(values[0]) for values in self.table.only.values()), datetime.now(timezone.utc)
            self.table.write((now, *own, *report_of(reject, names)) for reject in kept)


def rejects_of(
    path: Any,  # noqa: ANN401 - text or a path
    table: str | None,
    conn_id: str | None,
    context: Context,
) -> Rejects:
    """Read a task's arguments.

    :param path: the file.
    :param table: the table.
    :param conn_id: Airflow's connection of its database.
    :param context: the task's context.
    :raises PostHogSettingsError: if they do not go together.
    """
    output = None if path is None or path == "" else Output("rejects_path", str(path), overwrite=True)
    if not table:
        return Rejects(output, None)
    if not conn_id:
        raise PostHogSettingsError(
            "rejects_sql_conn_id", "is empty, and the rows come from no database.", "Name the table's database."
        )
    ti = context.get("ti")
    index = getattr(ti, "map_index", -1)
    task = "" if ti is None else f"{ti.dag_id}.{ti.task_id}" + (f"[{index}]" if index >= 0 else "")
    only: dict[str, tuple[str, ...] | tuple[int, ...]] = {
        "task": (task,),
        "run": ("" if ti is None else str(ti.run_id),),
    }
    return Rejects(output, SmallTable("rejects_table", conn_id, table, COLUMNS, only))
