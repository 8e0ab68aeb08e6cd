"""The types of a folder's columns: files of one name that have other types cannot be read together.

Readers that take a folder for one table (DuckDB, Arrow, Spark) go by the first file's types. What does not fit into
them fails the whole reading, be it only a wider integer whose values are large one day; so a column keeps its type,
and whoever wants another one says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.manifest import Interval

log = logging.getLogger(__name__)

POLICIES = ("fail", "allow")
#: The type of a column that holds nothing but nulls; it goes with every other.
_NULL = "null"
#: How many manifests are looked at for one that knows its columns; PostHog's own files do not.
_LOOKED_AT = 5

#: Pairs of a column's name and its type, as Arrow writes it; as JSON.
Schema = Sequence[Sequence[str]]


@dataclass(frozen=True)
class FolderTypes:
    """What is known of the columns of a folder's files.

    :param known: types by column.
    :param where: the interval that they are known from, for errors.
    :param columns: the columns of its files.
    :param policy: ``fail`` refuses a column that changes its type, ``allow`` takes its new type.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    columns: frozenset[str] = frozenset()
    policy: str = "fail"

    @classmethod
    def of(cls, fs: Any, root: str, interval: Interval, policy: str) -> FolderTypes:  # noqa: ANN401 - a file system
        """Read them from the manifests of the last interval of the name, and of the last one before an interval.

        :param fs: the file system.
        :param root: the folder of the files.
        :param interval: the interval that is about to be written; what its own files were like is of no account.
        :param policy: ``fail`` or ``allow``.
        """
        others = [known for known in manifests.written(fs, root, interval.name) if known.stem != interval.stem]
        last = _last(fs, root, others)
        if last is None:
            return cls(policy=policy)
        before = (
            _last(fs, root, [known for known in others if known.end <= interval.start and known != last[0]]) or last
        )
        columns = frozenset(name for name, _ in last[1]["schema"])
        return cls({**_types(before[1]), **_types(last[1])}, str(last[0]), columns, policy)

    def check(self, schema: Schema) -> None:
        """Refuse columns that have another type than before; say which are gone.

        :param schema: of the rows that are about to be written.
        :raises PostHogSettingsError: if there is one, unless that is allowed.
        """
        names = {name for name, _ in schema}
        if gone := sorted(self.columns - names):
            log.warning("%s has columns that are gone: %s", self.where, ", ".join(gone))
        changed = [
            f"{name!r} was {self.known[name]}, and is {kind} now"
            for name, kind in schema
            if kind != self.known.get(name, kind) and _NULL not in (kind, self.known[name])
        ]
        if changed and self.policy == "allow":
            log.warning("Columns have another type than in %s: %s", self.where, "; ".join(changed))
        elif changed:
            raise PostHogSettingsError(
                "schema_change",
                f"columns have another type than in {self.where}: {'; '.join(changed)}. Files of both could not be "
                "read together.",
                "Convert them in HogQL, write another folder or name, or, if your readers can tell both apart, "
                "schema_change='allow'.",
            )

    def merged(self, schema: Schema) -> dict[str, str]:
        """Return the types that are known once rows are written, those of columns that they have not among them.

        :param schema: of the rows.
        """
        return {**self.known, **{name: kind for name, kind in schema if kind != _NULL or name not in self.known}}


def _last(fs: Any, root: str, intervals: Sequence[Interval]) -> tuple[Interval, dict[str, Any]] | None:  # noqa: ANN401
    for interval in list(reversed(intervals))[:_LOOKED_AT]:
        manifest = manifests.read(fs, root, interval)
        if manifest and manifest.get("schema"):
            return interval, manifest
    return None


def _types(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {**(manifest.get("known_types") or {}), **{name: kind for name, kind in manifest["schema"] if kind != _NULL}}
