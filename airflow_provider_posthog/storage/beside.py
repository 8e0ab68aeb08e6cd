"""What belongs to an interval beside its files: a table of another format, and rows that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.storage.atomic_file import AtomicFile, is_flat, make_folder


@dataclass(frozen=True)
class Beside:
    """What is done before a manifest is written. A try that is killed there leaves it to the next one, again.

    :param commit: brings the recorded files, by their paths, into a table of another format, and returns what the
        manifest says of it; then none of them gets a name, and they go. It gets a mark, the same in each try.
    :param write: writes what else belongs to the interval.
    """

    commit: Callable[[Sequence[str], str], Mapping[str, Any]] | None = None
    write: Callable[[], None] = lambda: None


def keep_lines(fs: Any, path: str, lines: Sequence[str], token: str) -> None:  # noqa: ANN401 - a file system
    """Write a file of lines in place of the one that was there; without lines it goes.

    :param fs: the file system.
    :param path: the file.
    :param lines: without their ends.
    :param token: tells this writer from others.
    """
    if not lines:
        with suppress(FileNotFoundError):
            fs.rm_file(path)
        return
    if not is_flat(fs):
        make_folder(fs, path.rpartition("/")[0])
    with AtomicFile(fs, path, token=token) as atomic:
        atomic.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
        atomic.finish()
        atomic.commit()
