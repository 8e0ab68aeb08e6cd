"""What stands in a folder of files: one manifest for each interval, which lists its files with counts and checksums.

Files get names of their own each time their interval is written, so a manifest is switched from the old files to the
new ones by writing one small object. A reader that goes by the manifest never sees half an interval.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.storage.atomic_file import FileSystem, is_flat, make_folder, move

#: Where manifests are; Spark, Trino, Hive and Arrow take no names that begin with _ for data.
FOLDER = "_manifests"
VERSION = 1
#: Where those of whole ranges are, beside those of their intervals.
RANGES = f"{FOLDER}/ranges"
#: What Hive calls a partition of nulls.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
#: How many bytes of UTF-8 file systems take for the name of a folder or a file, and object stores for a whole key.
MAX_NAME = 255
MAX_KEY = 1024
#: What is kept free of a key for the file's own name.
_FILE_NAME = 200
#: The fewest bytes that a folder's name gets, however long the path around it is.
_LEAST_NAME = 64
#: ASCII that file systems, shells' patterns and addresses leave alone. No ~: it marks a name that was shortened.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. !$&()+,;@")
_DIGEST = 16
_NAME = pattern(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_STEM = pattern(r"(?P<name>.+)_(?P<start>\d{8}T\d{6}(?:\d{6})?)Z_(?P<end>\d{8}T\d{6}(?:\d{6})?)Z")
_SNAPSHOT = pattern(r"(?P<name>.+)_at_(?P<at>\d{8}T\d{6}(?:\d{6})?)Z")


@dataclass(frozen=True)
class Interval:
    """What is replaced as a whole: the rows of one name in one span of time, or all of them as of a moment.

    :param name: what the files' names begin with; tells several tables in one folder apart.
    :param start: the first moment, aware.
    :param end: the first moment after it, aware.
    :param is_snapshot: whether it is all rows as of ``start``, which ``end`` is, too; see :meth:`snapshot`.
    """

    name: str
    start: datetime
    end: datetime
    is_snapshot: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PostHogSettingsError(
                "name", f"{self.name[:80]!r} cannot begin a file's name.", "Write letters, digits, - and _."
            )
        for field_name, moment in (("start", self.start), ("end", self.end)):
            if moment.tzinfo is None:
                raise PostHogSettingsError(field_name, "is a time without an offset.", "Write it with one, or with Z.")
            object.__setattr__(self, field_name, moment.astimezone(timezone.utc))
        if not self.is_snapshot and self.start >= self.end:
            raise PostHogSettingsError(
                "end",
                f"{self.end:%F %T} is not after the start, {self.start:%F %T} (UTC).",
                "Write an end after the start.",
            )

    @classmethod
    def snapshot(cls, name: str, moment: datetime) -> Interval:
        """Return what stands for all rows of a name, whenever they are from.

        :param name: what the files' names begin with.
        :param moment: tells one snapshot from another, aware.
        """
        return cls(name, moment, moment, is_snapshot=True)

    @property
    def stem(self) -> str:
        """What the names of the interval's files begin with."""
        if self.is_snapshot:
            return f"{self.name}_at_{_compact(self.start)}"
        return f"{self.name}_{_compact(self.start)}_{_compact(self.end)}"

    def __str__(self) -> str:
        """Say which it is, for logs and errors: ``events, 2026-11-01T00:00:00Z to 2026-11-02T00:00:00Z``."""
        if self.is_snapshot:
            return f"{self.name}, as of {iso(self.start)}"
        return f"{self.name}, {iso(self.start)} to {iso(self.end)}"

    def as_json(self) -> dict[str, str]:
        """Return start and end as ISO text, in UTC."""
        return {"start": iso(self.start), "end": iso(self.end)}

    @classmethod
    def of_stem(cls, stem: str) -> Interval | None:
        """Read an interval from a name; ``None`` if it is none of ours.

        :param stem: the name.
        """
        with suppress(ValueError):  # also PostHogSettingsError
            if match := _STEM.fullmatch(stem):
                return cls(match["name"], _moment(match["start"]), _moment(match["end"]))
            if match := _SNAPSHOT.fullmatch(stem):
                return cls.snapshot(match["name"], _moment(match["at"]))
        return None


@dataclass(frozen=True)
class DataFile:
    """One file of an interval.

    :param path: where it is, relative to the folder.
    :param bytes: its size.
    :param sha256: its checksum, in hex.
    :param rows: how many rows are in it; ``None`` if nobody counted them.
    :param partition: the values of the columns that the path tells; ``None`` for null.
    """

    path: str
    bytes: int
    sha256: str
    rows: int | None
    partition: Mapping[str, str | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the manifest has it."""
        return asdict(self)


def iso(moment: datetime) -> str:
    """Write a time as ISO text in UTC, ending in ``Z``.

    :param moment: the time, aware.
    """
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def partition_path(partition: Mapping[str, str | None], root: str = "") -> str:
    """Return the folders of a partition, as Hive writes them: ``date=2026-11-01/``; empty for none.

    Letters and signs of any language stay as they are; what file systems, patterns or addresses take for something
    else is written as ``%2F``. A value that is too long for the name of a folder is cut and gets ``~`` and a hash of
    all of it, so that equal values stay together: its own text is in the manifest only.

    :param partition: the values by column.
    :param root: the folder that they are in, whose length counts in object stores.
    """
    room = MAX_KEY - _FILE_NAME - len(root.encode("utf-8", "replace")) - 1
    most = max(_LEAST_NAME, min(MAX_NAME, room // max(1, len(partition)) - 1))
    return "".join(f"{_folder_name(column, value, most)}/" for column, value in partition.items())


def _folder_name(column: str, value: str | None, most: int) -> str:
    head = f"{quote(column, safe='$ ')}="
    if value is None or value == "":
        return head + NULL_PARTITION
    signs = [_sign(sign) for sign in value]
    if value == NULL_PARTITION:  # somebody's text, and no null
        signs[0] = _escaped(value[0])
    if signs[-1] in (".", " "):  # which some file systems drop
        signs[-1] = _escaped(signs[-1])
    text = "".join(signs)
    if len((head + text).encode()) <= most:
        return head + text
    digest = hashlib.sha256(value.encode()).hexdigest()[:_DIGEST]
    left = most - len(head.encode()) - 1 - _DIGEST
    kept = ""
    for sign in signs:
        left -= len(sign.encode())
        if left < 0:
            break
        kept += sign
    return f"{head}{kept}~{digest}"


def _sign(sign: str) -> str:
    if sign in _PLAIN or (not sign.isascii() and sign.isprintable()):
        return sign
    return _escaped(sign)


def _escaped(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode())


def path_of(root: str, interval: Interval) -> str:
    """Return where an interval's manifest is.

    :param root: the folder of the files.
    :param interval: the interval.
    """
    return f"{root}/{FOLDER}/{interval.stem}.json"


def read(fs: FileSystem, root: str, interval: Interval) -> dict[str, Any] | None:
    """Read the manifest of an interval; ``None`` if it was never written.

    :param fs: the file system.
    :param root: the folder of the files.
    :param interval: the interval.
    :raises PostHogError: if something else stands in its place.
    """
    path = path_of(root, interval)
    fs.invalidate_cache(path.rpartition("/")[0])
    if not fs.exists(path):
        return None
    with fs.open(path, "rb") as file:
        text = file.read()
    try:
        content = json.loads(text)
        known = content["version"] == VERSION and isinstance(content["files"], list)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise PostHogError(f"{path} is not a manifest that this version of the provider can read. Move it away.")
    manifest: dict[str, Any] = content
    return manifest


def write(fs: FileSystem, root: str, interval: Interval, manifest: Mapping[str, Any], *, part: str) -> None:
    """Write the manifest of an interval, in place of an earlier one, as a whole.

    Those of ranges that hold the interval tell of other files then, and go before.

    :param fs: the file system.
    :param root: the folder of the files.
    :param interval: the interval.
    :param manifest: what it says, as JSON.
    :param part: where it is written before it is moved to its place.
    """
    path = path_of(root, interval)
    if not is_flat(fs):
        make_folder(fs, path.rpartition("/")[0])
    for other in _listed(fs, f"{root}/{RANGES}", interval.name):
        if other.start < interval.end and other.end > interval.start:
            with suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{RANGES}/{other.stem}.json")
    with fs.open(part, "wb") as file:
        file.write(json.dumps(manifest, indent=1).encode() + b"\n")
    move(fs, part, path)


def written(fs: Any, root: str, name: str) -> Sequence[Interval]:  # noqa: ANN401 - an AbstractFileSystem
    """List the intervals of one name that were written, oldest first.

    :param fs: the file system.
    :param root: the folder of the files.
    :param name: the name.
    """
    return _listed(fs, f"{root}/{FOLDER}", name)


def _listed(fs: Any, folder: str, name: str) -> Sequence[Interval]:  # noqa: ANN401 - an AbstractFileSystem
    fs.invalidate_cache(folder)
    try:
        listed = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    names = (path.rpartition("/")[2] for path in listed)
    intervals = (Interval.of_stem(name.removesuffix(".json")) for name in names if name.endswith(".json"))
    return sorted(
        (other for other in intervals if other is not None and other.name == name),
        key=lambda interval: (interval.start, interval.end),
    )


def rows_before(fs: Any, root: str, interval: Interval) -> int | None:  # noqa: ANN401 - an AbstractFileSystem
    """Return how many rows the last one of the same name before an interval has; ``None`` if that is not known.

    :param fs: the file system.
    :param root: the folder of the files.
    :param interval: the interval, or a snapshot.
    """
    earlier = [known for known in written(fs, root, interval.name) if known.start < interval.start]
    manifest = read(fs, root, earlier[-1]) if earlier else None
    rows = (manifest or {}).get("rows")
    return rows if isinstance(rows, int) else None


def _compact(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S}{f'{moment.microsecond:06}' if moment.microsecond else ''}Z"


def _moment(text: str) -> datetime:
    whole = text if len(text) > 15 else f"{text}000000"
    return datetime.strptime(whole, "%Y%m%dT%H%M%S%f").replace(tzinfo=timezone.utc)


def within(intervals: Sequence[Interval], before: Interval, length: timedelta) -> list[Interval]:
    """Return the intervals that end within a length of time before another one begins; no snapshots.

    :param intervals: the intervals.
    :param before: the other one.
    :param length: how far to look back.
    """
    first = before.start - length
    return [known for known in intervals if not known.is_snapshot and first < known.end <= before.start]
