"""The switches: each puts one defect into the package, and names the tests of which at least one has to notice.

``python -m tests.defects.switches`` throws them one by one, each in a process of its own, and prints what came of it.
The package is imported once; the processes are forks of that one.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

PACKAGE = "airflow_provider_posthog"


class Defect(NamedTuple):
    """A defect.

    :param put: puts it in.
    :param tests: what pytest is given.
    """

    put: Callable[[], None]
    tests: list[str]


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def _wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def blind_repeat() -> None:
    """Send a POST again whose answer was lost."""
    _module("api.retry")._may_repeat = lambda call, outcome: True


def key_forwarded() -> None:
    """Send the key wherever a redirect leads."""

    def make(opened: Any) -> Any:
        return lambda self, method, url, **options: opened(self, method, url, **{**options, "authorized": True})

    _wrap(_module("api.clients").Client, "open", make)


def no_count_check() -> None:
    """Take any number of rows for all."""
    _module("extract.interval_counts").Recount.agrees = lambda self, rows, keys: True


def salt_logged() -> None:
    """Log the salt."""
    import logging

    def make(read: Any) -> Any:
        def salt(self: Any) -> Any:
            found = read(self)
            logging.getLogger("airflow_provider_posthog").debug("salt %s", found)
            return found

        return salt

    _wrap(_module("hooks.posthog").PostHogHook, "audit_secret", make)


def failure_ignored() -> None:
    """Wait on for an export that has failed."""
    states, jobs = _module("api.states"), _module("api.jobs")

    def make(of_export: Any) -> Any:
        def judge(export: Any) -> Any:
            found = of_export(export)
            return states.Verdict("succeeded") if found.state == "failed" else found

        return judge

    _wrap(states, "of_export", make)
    object.__setattr__(jobs.EXPORT, "judge", states.of_export)


def part_under_final_name() -> None:
    """Write a file under its own name from its first byte on."""
    kind = _module("storage.atomic_file").AtomicFile

    def make(init: Any) -> Any:
        def begin(self: Any, *args: Any, **options: Any) -> None:
            init(self, *args, **options)
            self.part = self._path

        return begin

    _wrap(kind, "__init__", make)


def no_transaction() -> None:
    """Keep what a failed load has written."""
    _module("load.duckdb").DuckDBLoader._rollback = lambda self: self._connection.execute("COMMIT")


def window_proof_skipped() -> None:
    """Do not compare counts with rows that were seen."""
    _module("extract.reader").Extraction._compare_with_sample = lambda self: None


def delete_taken_for_done() -> None:
    """Call somebody erased because the deletion was accepted."""
    judge = _module("erasure.judge")
    judge._profile = judge._events = lambda person, remains, request: None


def key_in_trigger() -> None:
    """Hand the key to the triggerer through Airflow's database."""

    def make(serialize: Any) -> Any:
        def told(self: Any) -> Any:
            path, arguments = serialize(self)
            return path, {**arguments, "api_key": "phx_secret"}

        return told

    _wrap(_module("triggers.jobs").PostHogJobTrigger, "serialize", make)


def error_in_200_is_made() -> None:
    """Take any object for what was to be made."""
    for name in ("annotations", "warehouse", "exports", "cohorts"):
        _module(f"api.{name}").json_item = _module("api.call").json_object


def size_not_compared() -> None:
    """Take a file for whole, however many of its bytes came."""
    stream = _module("download.http")._Stream

    def make(whole: Any) -> Any:
        def taken(self: Any, received: int) -> Any:
            self.total = received
            return whole(self, received)

        return taken

    _wrap(stream, "whole", make)


def local_time_for_utc() -> None:
    """Take a time without an offset for one of this machine's zone."""
    _wrap(_module("api.server_time"), "read_iso", lambda read: lambda text: read(text).astimezone())


DEFECTS: dict[str, Defect] = {
    "blind POST retry": Defect(blind_repeat, ["tests/api/test_retry.py"]),
    "key forwarded on redirect": Defect(key_forwarded, ["tests/download/test_download.py", "-k", "never_sees_the_key"]),
    "no check of counts": Defect(no_count_check, ["tests/extract/test_interval_counts.py", "-k", "hide_no_row"]),
    "salt logged": Defect(salt_logged, ["tests/defects/test_secrets_stay.py", "-k", "salt"]),
    "poll that ignores failure": Defect(failure_ignored, ["tests/api/test_states.py"]),
    "part file under its final name": Defect(
        part_under_final_name, ["tests/storage/test_atomic_file.py", "-k", "before_the_end"]
    ),
    "load without transaction": Defect(no_transaction, ["tests/load/test_loaders.py", "-k", "duckdb"]),
    "window proof skipped": Defect(window_proof_skipped, ["tests/extract/test_reader_proof.py", "-k", "were_seen"]),
    "deletion done when accepted": Defect(
        delete_taken_for_done, ["tests/erasure/test_adversary.py", "-k", "hidden_profile or came_back or at_any_call"]
    ),
    "trigger argument with key": Defect(key_in_trigger, ["tests/defects/test_secrets_stay.py", "-k", "trigger"]),
    "error in a 200 taken for made": Defect(error_in_200_is_made, ["tests/api/test_items.py"]),
    "size of a file not compared": Defect(
        size_not_compared, ["tests/download/test_download.py", "-k", "another_size_than"]
    ),
    "local time for UTC": Defect(local_time_for_utc, ["tests/api/test_server_time.py"]),
}
_OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "-W", "ignore"]


def thrown(defect: Defect | None, tests: list[str]) -> tuple[int, str]:
    """Run tests in a fork, with a defect put in; return pytest's exit code, and the end of what it printed.

    :param defect: which; ``None`` for none.
    :param tests: what pytest is given.
    """
    with tempfile.TemporaryFile("w+b") as said:
        child = os.fork()
        if not child:
            code = 70
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                if defect is not None:
                    defect.put()
                import pytest

                code = int(pytest.main([*_OPTIONS, *tests]))
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read().decode("utf-8", "replace")[-1500:]


def main() -> None:
    """Throw all switches, and print what came of each as JSON."""
    importlib.import_module("tests.conftest")  # before Airflow
    for name in (
        "hooks.posthog",
        "operators.exports",
        "triggers.jobs",
        "extract.reader",
        "load.duckdb",
        "download.http",
    ):
        _module(name)
    found = {name: thrown(defect, defect.tests) for name, defect in DEFECTS.items()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
