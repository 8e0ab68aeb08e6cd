"""Paths in object storage as a task's author writes them: refused where they would lead elsewhere."""

from __future__ import annotations

import os
import re

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

_SCHEME = pattern(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_LOCAL = frozenset({"file", "local"})
#: Storages whose addresses begin with a bucket or a container.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "wasb", "wasbs", "oss"})
#: What a parser of addresses may take for something else than a part of a name.
_ODD = "?#%*[]{}\\"


def storage_path(
    field: str,
    path: str | os.PathLike[str] | ObjectStoragePath,
    conn_id: str | None = None,
    *,
    example: str,
    folder: bool = False,
) -> ObjectStoragePath:
    """Return a path with the file system behind it.

    :param field: the argument that it came in, for the error.
    :param path: the path, as text or as an ``ObjectStoragePath``; blanks around a text do not count.
    :param conn_id: Airflow's connection for the object storage, for a path that is text.
    :param example: what to write instead.
    :param folder: whether it is a folder; a slash at its end is of no account then.
    :raises PostHogSettingsError: if it is empty, names no place (``file://``, ``s3://``, ``/``), or has signs that
        Airflow would drop from it.
    """
    remedy = f"Write one such as {example!r}."
    if isinstance(path, ObjectStoragePath):
        is_local = not path.protocol or path.protocol in _LOCAL
        if not names_a_place(path.path if is_local else f"{path.protocol}://{path.path}"):
            raise PostHogSettingsError(field, f"{str(path)!r} names no place.", remedy)
        return path
    text = _text(field, path, remedy)
    try:
        made = ObjectStoragePath(text.rstrip("/") if folder else text, **({"conn_id": conn_id} if conn_id else {}))
        path_ = made.path
    except ValueError:  # such as a storage that fsspec does not know
        raise PostHogSettingsError(field, f"{text[:80]!r} is not a path in a storage.", remedy) from None
    if path_.startswith("/") and not text.startswith("/") and _SCHEME.fullmatch(text) is None:
        raise PostHogSettingsError(field, f"{text[:80]!r} is relative, and Airflow 2 takes it from the root.", remedy)
    for sign in _ODD:
        if path_.count(sign) < text.count(sign):
            raise PostHogSettingsError(field, f"Airflow drops {sign!r} from {text[-80:]!r}.", "Write it without that.")
    return made


def _text(field: str, path: object, remedy: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise PostHogSettingsError(field, f"is not a path, but a {type(path).__name__}.", remedy)
    text = str(path).strip()
    if not text:
        raise PostHogSettingsError(field, "is empty.", remedy)
    if not names_a_place(text):
        raise PostHogSettingsError(field, f"{text[:80]!r} names no place.", remedy)
    return text


def is_bucket(text: str) -> bool:
    """Tell whether a path is a bucket as a whole, which can be no file.

    :param text: the path.
    """
    match = _SCHEME.fullmatch(text.strip())
    return match is not None and match[1].lower() in _BUCKETS and "/" not in match[2].removeprefix("//").rstrip("/")


def names_a_place(text: str) -> bool:
    """Tell whether a path leads to where it says, and not to the working directory or the root of all files.

    :param text: the path.
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        return bool(text.strip("/ "))
    scheme, rest = match[1].lower(), match[2]
    if scheme in _LOCAL:  # file://tmp/x would be tmp/x of wherever the worker runs
        absolute = rest.removeprefix("//")
        return absolute.startswith("/") and bool(absolute.strip("/ "))
    if not rest.startswith("//") or not rest.strip("/ "):
        return False
    bucket = rest[2:].partition("/")[0].rpartition("@")[2].strip()
    return scheme not in _BUCKETS or (bool(bucket.strip(".")) and not bucket.endswith(":"))
