"""Whether the intervals in a folder hold a range of time together: without a gap, and nothing twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.atomic_file import AtomicFile
from airflow_provider_posthog.storage.manifest import Interval, iso

#: How many gaps an error names.
_NAMED = 5


@dataclass(frozen=True)
class Summary:
    """What a range of a folder holds.

    :param intervals: how many intervals.
    :param files: how many files.
    :param rows: how many rows; ``None`` where nobody counted those of an interval.
    :param bytes: of all files.
    :param duplicates: copies that were dropped.
    :param left_out: rows that were left out (``scan_back``); ``None`` if none of the intervals counted.
    :param manifest: the path of the range's own manifest, within the folder.
    """

    intervals: int
    files: int
    rows: int | None
    bytes: int
    duplicates: int
    left_out: int | None
    manifest: str


def summary(fs: Any, root: str, whole: Interval) -> Summary:  # noqa: ANN401 - a file system
    """Write the manifest of a range, if the intervals in the folder tile it, and return what it holds.

    It lists the files of all intervals, and stays until one of them is written again.

    :param fs: the file system.
    :param root: the folder of the files.
    :param whole: the range, with the name of its intervals.
    :raises PostHogIncompleteError: if a part of it is in no interval, or in several.
    :raises PostHogSettingsError: if the intervals are of several projects, or of different rows.
    """
    inside = [
        interval
        for interval in manifests.written(fs, root, whole.name)
        if not interval.is_snapshot and interval.start < whole.end and interval.end > whole.start
    ]
    check_tiling(inside, whole)
    contents = [_manifest(fs, root, interval) for interval in inside]
    kinds = {_kind(manifest) for manifest in contents}
    if len(kinds) > 1:
        raise PostHogSettingsError(
            "path",
            f"its intervals of {whole.name} are of {len(kinds)} projects, or kinds of rows.",
            "Write each into a folder, or by a name, of its own.",
        )
    rows: list[int | None] = [manifest.get("rows") for manifest in contents]
    known = [number for number in rows if number is not None]
    left_out = [int(manifest["left_out"]) for manifest in contents if manifest.get("left_out") is not None]
    held = Summary(
        intervals=len(contents),
        files=sum(len(manifest["files"]) for manifest in contents),
        rows=sum(known) if len(known) == len(rows) else None,
        bytes=sum(int(manifest.get("bytes") or 0) for manifest in contents),
        duplicates=sum(int(manifest.get("duplicates") or 0) for manifest in contents),
        left_out=sum(left_out) if left_out else None,
        manifest=f"{manifests.RANGES}/{whole.stem}.json",
    )
    _publish(fs, root, whole, inside, contents, held)
    return held


def _publish(
    fs: Any,  # noqa: ANN401 - a file system
    root: str,
    whole: Interval,
    inside: Sequence[Interval],
    contents: Sequence[Mapping[str, Any]],
    held: Summary,
) -> None:
    """Write a range's manifest as a whole; not if an interval was written again meanwhile."""
    path = f"{root}/{held.manifest}"
    counts = {name: value for name, value in asdict(held).items() if name not in ("files", "intervals", "manifest")}
    payload = {
        "version": manifests.VERSION,
        "name": whole.name,
        "interval": whole.as_json(),
        **{name: contents[0].get(name) for name in ("project_id", "host", "source", "format")},
        **counts,
        "intervals": [
            {**interval.as_json(), "manifest": f"{manifests.FOLDER}/{interval.stem}.json", "rows": manifest.get("rows")}
            for interval, manifest in zip(inside, contents, strict=True)
        ],
        "files": [file for manifest in contents for file in manifest["files"]],
    }
    with AtomicFile(fs, path, token=uuid.uuid4().hex[:8]) as atomic:
        atomic.write(json.dumps(payload, indent=1).encode() + b"\n")
        atomic.finish()
        atomic.commit()
    if [_manifest(fs, root, interval) for interval in inside] != list(contents):
        with suppress(FileNotFoundError):
            fs.rm_file(path)
        raise PostHogError(f"An interval of {whole} was written again meanwhile. Let the task retry.")


def check_tiling(intervals: Sequence[Interval], whole: Interval) -> None:
    """Make sure that intervals hold all of a range, each part of it once.

    :param intervals: the intervals that have a part of it, oldest first.
    :param whole: the range.
    :raises PostHogIncompleteError: if they do not.
    """
    at, wrong = whole.start, []
    for interval in intervals:
        if interval.start > at:
            wrong.append(f"nothing holds {iso(at)} to {iso(interval.start)}")
        elif interval.start < at:
            wrong.append(
                f"{iso(interval.start)} to {iso(min(at, interval.end))} is held twice, or begins before the range"
            )
        at = max(at, interval.end)
    if at < whole.end:
        wrong.append(f"nothing holds {iso(at)} to {iso(whole.end)}")
    elif at > whole.end:
        wrong.append(f"the last interval goes on until {iso(at)}, behind the range")
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise PostHogIncompleteError(f"{whole}: {'; '.join(wrong[:_NAMED])}{more}. Run the tasks of these intervals.")


def _kind(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells rows of one kind; how far back they were looked for is no matter."""
    source = manifest.get("source") or {}
    return tuple(
        str(value) for value in (*map(manifest.get, ("project_id", "host")), *map(source.get, ("table", "time")))
    )


def _manifest(fs: Any, root: str, interval: Interval) -> dict[str, Any]:  # noqa: ANN401 - a file system
    content = manifests.read(fs, root, interval)
    if content is None:
        raise PostHogError(f"The manifest of {interval} has just been removed. Let the task retry.")
    return content
