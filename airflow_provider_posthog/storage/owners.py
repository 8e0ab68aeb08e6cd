"""Who may read a file on a local disk; object storage has rights of its own, for all of a bucket."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from airflow_provider_posthog.storage.atomic_file import FileSystem

_LOCAL = {"file", "local"}


def is_local(fs: FileSystem) -> bool:
    """Return whether files have owners and modes.

    :param fs: the file system.
    """
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else {*fs.protocol}
    return bool(protocols & _LOCAL)


def make_private(fs: FileSystem, path: str) -> None:
    """Make an empty file that only its owner may read, where a disk has owners; what is written there stays so.

    :param fs: the file system.
    :param path: the file, as the file system spells it.
    """
    if not is_local(fs):
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"):
        os.chmod(path, 0o600)  # also one that an earlier try has left


def own_like(fs: FileSystem, path: str, other: str) -> None:
    """Give a file the mode, and as far as possible the owner, of the one that it is to replace.

    :param fs: the file system.
    :param path: the file.
    :param other: the other one.
    """
    if not is_local(fs):
        return
    original = os.stat(other)
    with suppress(OSError):  # only root may give files away
        os.chown(path, original.st_uid, original.st_gid)
    os.chmod(path, stat.S_IMODE(original.st_mode))


def is_link(fs: FileSystem, path: str) -> bool:
    """Return whether a file is a link to one that may be elsewhere.

    :param fs: the file system.
    :param path: the file.
    """
    return is_local(fs) and os.path.islink(path)
