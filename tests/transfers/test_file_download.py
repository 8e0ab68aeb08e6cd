"""PostHog's own files into object storage: weeks, retries, what goes wrong on either side."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as parquet
import pytest

from airflow_provider_posthog.download.file_download import BrokenFileError, suffix_of
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogNotFoundError,
    PostHogSettingsError,
)
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from tests.operators.support import Store, context, run_trigger, task_deferred
from tests.support.scripted import Reply, ScriptedServer, error, ok
from tests.transfers.killing import Tries

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach


ALL = "/file_download_batch_exports/"
MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


@pytest.fixture
def quick(connection: EmulatorProcess) -> EmulatorProcess:
    connection.settings(file_download_seconds=0, file_listing_seconds=0)
    return connection


def operator(path: Path | str, **options: Any) -> Any:
    given = {"start": day(3), "end": day(2), "poll_interval": 0.1, "timeout": 20, "deferrable": False}
    return PostHogFileDownloadOperator(task_id="task", path=str(path), **{**given, **options})


def posts(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    return [call for call in posthog.calls(ALL, "POST") if call["path"].endswith(ALL)]


def data_files(folder: Path, pattern: str = "*.parquet") -> list[Path]:
    return sorted(folder.rglob(pattern))


def ids(folder: Path) -> list[str]:
    found = [uuid for path in data_files(folder) for uuid in parquet.read_table(path)["uuid"].to_pylist()]
    return sorted(found)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("deferrable", [False, True])
def test_weeks_one_after_another(quick: EmulatorProcess, tmp_path: Path, deferrable: bool) -> None:
    quick.settings(rows_per_file=3000)
    ctx = context(store=Store())
    task: Any = operator(tmp_path, start=day(20), end=day(2), deferrable=deferrable, outlets=[])
    found = drive(task, ctx) if deferrable else task.execute(ctx)
    assert json.loads(json.dumps(found)) == found
    wished = [call["body"] for call in posts(quick)]
    edges = [(wish["data_interval_start"], wish["data_interval_end"]) for wish in wished]
    assert edges == [(day(20), day(13)), (day(13), day(6)), (day(6), day(2))]
    assert found["rows"] == quick.count_events(day(20), day(2), "created_at") == len(set(ids(tmp_path))) > 5000
    assert found["interval"] == {"start": day(20).replace("+00:00", "Z"), "end": day(2).replace("+00:00", "Z")}
    assert len(found["files"]) > 3
    for file in found["files"]:
        content = Path(file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
        assert parquet.read_metadata(file["path"]).num_rows == file["rows"]
    manifest = json.loads(Path(found["manifest"]).read_text())
    assert (manifest["rows"], len(manifest["files"])) == (found["rows"], len(found["files"]))
    assert len(everything(tmp_path)) == len(found["files"]) + 1, "nothing is left over"
    assert ctx["task_state_store"].kept == {}
    assert "pipeline" in ctx["ti"].pushed["_link_PostHogLink"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-10-20T00:00:00+02:00", "2025-11-10T00:00:00+01:00"),  # summer time ends
        ("2025-03-25T00:00:00+01:00", "2025-04-08T00:00:00+02:00"),
        ("2025-05-01T00:00:00Z", "2025-05-15T00:00:00.000001Z"),
        ("2025-05-01T00:00:00Z", "2025-05-08T00:00:00Z"),
    ],
)
def test_weeks_leave_out_nothing_and_bring_nothing_twice(
    quick: EmulatorProcess, tmp_path: Path, start: str, end: str
) -> None:
    operator(tmp_path, start=start, end=end).execute(context())
    bodies = [call["body"] for call in posts(quick)]
    edges = [
        tuple(datetime.fromisoformat(body[f"data_interval_{edge}"].replace("Z", "+00:00")) for edge in ("start", "end"))
        for body in bodies
    ]
    wished = [datetime.fromisoformat(edge.replace("Z", "+00:00")) for edge in (start, end)]
    assert [edges[0][0], edges[-1][1]] == wished
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert all(timedelta(0) < last - first <= timedelta(days=7) for first, last in edges)


def drive(task: Any, ctx: dict[str, Any], *, store: bool = True) -> Any:
    """Run a task that defers again and again, each time as a new object in a new process would."""
    method, kwargs = "execute", {}
    for _ in range(20):
        same = {"start": task.start, "end": task.end, "model": task.model, "file_format": task.file_format}
        fresh = operator(task.path, deferrable=task.deferrable, **same)
        try:
            if method == "execute":
                return fresh.execute(ctx)
            return fresh.resume_execution(method, kwargs, ctx)
        except task_deferred() as deferred:
            event = run_trigger(deferred.trigger)  # type: ignore[attr-defined]
            method, kwargs = deferred.method_name, {"event": event}  # type: ignore[attr-defined]
    raise AssertionError("it defers for ever")


@pytest.mark.parametrize("model", ["events", "persons", "sessions"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_json_lines(quick: EmulatorProcess, tmp_path: Path, model: Any, compression: Any) -> None:
    span = {"start": day(6), "end": day(0)}
    found = operator(tmp_path, model=model, file_format="JSONLines", compression=compression, **span).execute(context())
    assert all(file["path"].endswith(suffix_of("JSONLines", compression)) for file in found["files"])
    unpack = gzip.decompress if compression else bytes
    lines = [line for file in found["files"] for line in unpack(Path(file["path"]).read_bytes()).splitlines()]
    assert found["rows"] == len(lines)
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert lines or model == "persons"


def test_names_are_chosen(quick: EmulatorProcess, tmp_path: Path) -> None:
    operator(tmp_path, include=["$pageview"], name="views").execute(context())
    (file,) = data_files(tmp_path)
    assert set(parquet.read_table(file)["event"].to_pylist()) == {"$pageview"}
    assert file.name.startswith("views_")
    assert posts(quick)[0]["body"]["include"] == ["$pageview"]


def test_again_replaces_its_own_interval_only(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(rows_per_file=100)
    other = operator(tmp_path, start=day(2), end=day(1)).execute(context(run_id="other"))
    operator(tmp_path).execute(context())
    quick.settings(rows_per_file=1000)
    quick.add_events([event("01a20000-0000-7000-8000-0000000fd001", day(2.5))])
    again = operator(tmp_path).execute(context(run_id="again"))
    kept = [file["path"] for file in (*other["files"], *again["files"])]
    assert [str(path) for path in data_files(tmp_path)] == sorted(kept)
    assert len(ids(tmp_path)) == len(set(ids(tmp_path))) == other["rows"] + again["rows"]
    assert "01a20000-0000-7000-8000-0000000fd001" in ids(tmp_path)


def event(uuid: str, came: str) -> dict[str, object]:
    return {
        "uuid": uuid,
        "event": "late",
        "distinct_id": "user-1",
        "person_id": "01a20000-0000-7000-8000-00000000aaaa",
        "timestamp": came,
        "created_at": came,
        "properties": {},
    }


def test_no_rows(quick: EmulatorProcess, tmp_path: Path) -> None:
    span = {"start": "2001-01-01T00:00:00Z", "end": "2001-01-02T00:00:00Z"}
    found = operator(tmp_path, **span).execute(context())
    assert (found["files"], found["rows"], found["bytes"]) == ([], 0, 0)
    assert everything(tmp_path) == ["_manifests/events_20010101T000000Z_20010102T000000Z.json"]


@pytest.mark.parametrize("store", [Store, lambda: None])
def test_a_retry_goes_on_with_the_same_file_download(quick: EmulatorProcess, tmp_path: Path, store: Any) -> None:
    """The files come from the job of the first try, with a state store and without."""
    kept = store()
    quick.settings(file_download_seconds=1000)
    with pytest.raises(PostHogJobTimeout, match="not cancelled"):
        operator(tmp_path, timeout=0.3, cancel_on_kill=False).execute(context(store=kept))
    quick.advance(2000)
    found = operator(tmp_path).execute(context(try_number=2, store=kept))
    assert found["rows"] == len(set(ids(tmp_path))) > 100
    assert len(posts(quick)) == 1


def test_other_arguments_and_cleared_tasks_begin_anew(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(file_download_seconds=1000)
    for attempt, options in enumerate(({}, {"exclude": ["$pageview"]}), 1):
        with pytest.raises(PostHogJobTimeout):
            operator(tmp_path, timeout=0.2, **options).execute(context(try_number=attempt))
    quick.settings(file_download_seconds=0)
    operator(tmp_path, exclude=["$pageview"]).execute(context(try_number=3, max_tries=5))
    assert len(posts(quick)) == 3
    assert len(everything(tmp_path)) == 2


def test_a_retry_goes_on_with_the_week_and_the_file(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(rows_per_file=1500)
    span = {"start": day(16), "end": day(2)}
    quick.faults(method="GET", path="*/download/*", status=404, body={"detail": "gone"}, skip=4, count=-1)
    with pytest.raises(Exception, match="404"):
        operator(tmp_path, max_in_flight=1, **span).execute(context())
    assert data_files(tmp_path) == []
    assert not list((tmp_path / "_manifests").glob("*"))
    asked = len(quick.calls("/download/", "GET"))
    assert asked >= 5
    quick.clear_faults()
    found = operator(tmp_path, **span).execute(context(try_number=2))
    assert len(posts(quick)) == 2
    assert len(quick.calls("/download/", "GET")) - asked == len(found["files"]) - 4
    assert found["rows"] == quick.count_events(day(16), day(2), "created_at") == len(set(ids(tmp_path)))


def test_expired_files_are_made_anew(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.faults(method="GET", path="*/download/*", status=404, body={"detail": "gone"}, count=-1)
    with pytest.raises(Exception, match="404"):
        operator(tmp_path).execute(context())
    quick.clear_faults()
    quick.advance(8 * 86_400)
    found = operator(tmp_path).execute(context(try_number=2))
    assert found["rows"] == len(set(ids(tmp_path))) > 100
    assert len(posts(quick)) == 2


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("FailedBilling", "billing limit"),
        ("Failed", "Failed"),
        ("FailedRetryable", "passing"),
        ("TimedOut", "gave it up"),
    ],
)
def test_failures(quick: EmulatorProcess, tmp_path: Path, outcome: str, says: str) -> None:
    quick.settings(file_download_outcome=outcome)
    with pytest.raises(PostHogJobFailed, match=says):
        operator(tmp_path).execute(context())
    quick.settings(file_download_outcome="Completed")
    assert operator(tmp_path).execute(context(try_number=2))["rows"] > 100
    assert len(posts(quick)) == 2


def test_waits_for_a_slot(quick: EmulatorProcess, tmp_path: Path) -> None:
    refused = {"type": "server_error", "code": "too_many_concurrent_file_downloads", "detail": "x", "attr": None}
    quick.faults(method="POST", path=f"*{ALL}", status=429, body=refused, count=3)
    assert operator(tmp_path).execute(context())["rows"] > 100
    assert len(posts(quick)) == 4
    quick.faults(method="POST", path=f"*{ALL}", status=429, body=refused, count=-1)
    with pytest.raises(PostHogJobTimeout, match="pool"):
        operator(tmp_path, timeout=0.5).execute(context(run_id="b"))


def test_waits_for_a_slot_in_the_triggerer(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(max_file_downloads=1, file_download_seconds=1000)
    with pytest.raises(PostHogJobTimeout):
        operator(tmp_path / "other", timeout=0.2, cancel_on_kill=False).execute(context(run_id="other"))
    quick.settings(file_download_seconds=0)

    def deferred(task: Any, ctx: dict[str, Any]) -> Any:
        before = len(posts(quick))
        with pytest.raises(task_deferred()) as found:
            task.execute(ctx)
        assert len(posts(quick)) == before + 1, "the client does not wait for a slot: that holds the worker"
        trigger: Any = found.value.trigger  # type: ignore[attr-defined]
        assert (trigger.check, trigger.arguments) == ("file_download_slot", {"refused_at": 1})
        return trigger

    ctx = context()
    trigger = deferred(operator(tmp_path / "mine", deferrable=True, timeout=0.5), ctx)
    event = run_trigger(trigger)
    assert event["outcome"] == "timeout"
    with pytest.raises(PostHogJobTimeout, match="pool"):
        operator(tmp_path / "mine", deferrable=True, timeout=0.5).execute_complete(ctx, event)
    ctx = context(try_number=2)
    trigger = deferred(operator(tmp_path / "mine", deferrable=True), ctx)
    quick.advance(2000)
    event = run_trigger(trigger)
    assert event["outcome"] == "succeeded"
    with pytest.raises(PostHogJobError, match="refused"):
        operator(tmp_path / "mine", deferrable=True).execute_complete(ctx, {**event, "outcome": "refused"})
    with pytest.raises(task_deferred()) as found:
        operator(tmp_path / "mine", deferrable=True).execute_complete(ctx, event)
    event = run_trigger(found.value.trigger)  # type: ignore[attr-defined]
    task = operator(tmp_path / "mine", deferrable=True)
    assert task.execute_complete(ctx, event)["rows"] == len(set(ids(tmp_path / "mine"))) > 100


def test_old_servers(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(generation="A")
    with pytest.raises(PostHogJobFailed, match="PostHogQueryToObjectStorageOperator"):
        operator(tmp_path).execute(context())


def test_a_project_that_is_not_there(quick: EmulatorProcess, tmp_path: Path) -> None:
    """Its status is that of a server without file downloads, but no other operator would help."""
    with pytest.raises(PostHogNotFoundError, match="Project not found"):
        operator(tmp_path, project_id=98765).execute(context())


def test_killed_while_posthog_works(quick: EmulatorProcess, tmp_path: Path) -> None:
    quick.settings(file_download_seconds=1000)
    task: Any = operator(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        kill_while_waiting(task)
    task.on_kill()
    assert [call["path"].endswith("/cancel/") for call in quick.calls("/cancel/", "POST")] == [True]


def kill_while_waiting(task: Any) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, killed)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        task.execute(context())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_lost_answer_is_told_of(quick: EmulatorProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quick.faults(method="POST", path=f"*{ALL}", cut="after")
    with caplog.at_level("WARNING"):
        assert operator(tmp_path).execute(context())["rows"] == len(set(ids(tmp_path))) > 100
    assert len(posts(quick)) == 2


JOB = "01a20000-0000-4000-8000-000000000001"
FILE = "01a20000-0000-4000-8000-00000000000f"


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_0123456789", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def done(files: list[str], rows: int | None) -> Reply:
    return ok({"id": JOB, "status": "Completed", "files": files, "records_completed": rows})


@pytest.mark.parametrize(
    ("reply", "rows", "problem"),
    [
        (Reply(200, {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n{"a":2}\n'), 3, "2 rows, but PostHog says"),
        (Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>"), 2, "text/html"),
    ],
)
def test_what_is_not_whole_is_refused(
    scripted: ScriptedServer, tmp_path: Path, reply: Reply, rows: int, problem: str
) -> None:
    scripted.script(ok({"id": JOB}, 202), done([FILE], rows), done([FILE], rows), reply, done([FILE], rows))
    with pytest.raises(Exception, match=problem):
        operator(tmp_path, file_format="JSONLines").execute(context())
    assert not (tmp_path / "_manifests").exists()


def test_servers_that_do_not_count(scripted: ScriptedServer, tmp_path: Path) -> None:
    body = Reply(200, {"Content-Type": "application/octet-stream"}, b"not looked into")
    told = done([FILE], None)
    scripted.script(ok({"id": JOB}, 202), told, told, body, told)
    found = operator(tmp_path, file_format="JSONLines", compression="brotli").execute(context())
    assert (found["rows"], found["files"][0]["rows"]) == (None, None)
    assert json.loads(Path(found["manifest"]).read_text())["rows"] is None


OTHER = "01a20000-0000-4000-8000-0000000000ff"
LINE = Reply(200, {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n')


@pytest.mark.parametrize(
    ("first", "then"),
    [([FILE], [FILE, OTHER]), ([], [OTHER, FILE]), ([FILE], [OTHER])],
)
@pytest.mark.parametrize("counts", [True, False])
def test_the_list_of_files_is_not_final_at_once(
    scripted: ScriptedServer, tmp_path: Path, first: list[str], then: list[str], counts: bool
) -> None:
    """What PostHog lists later is fetched too, and what it does not list any more is dropped."""
    rows = len(then) if counts else None
    more = [LINE for file in then if file not in first]
    before = done(first, 99 if counts else None)
    scripted.script(
        ok({"id": JOB}, 202), before, before, *(LINE for _ in first), done(then, rows), *more, done(then, rows)
    )
    found = operator(tmp_path, file_format="JSONLines").execute(context())
    assert len(found["files"]) == len(data_files(tmp_path, "*.jsonl")) == len(then)
    assert found["rows"] == len(then)


def test_the_list_of_files_that_nobody_counts(scripted: ScriptedServer, tmp_path: Path) -> None:
    first, then = done([FILE], None), done([FILE, OTHER], None)
    scripted.script(ok({"id": JOB}, 202), first, first, LINE, then, LINE, then)
    found = operator(tmp_path, file_format="JSONLines", compression="brotli").execute(context())
    assert (len(found["files"]), found["rows"]) == (2, None)


@pytest.mark.parametrize(("status", "kind"), [("Cancelled", PostHogJobFailed), ("Running", PostHogJobError)])
def test_completed_is_taken_back(scripted: ScriptedServer, tmp_path: Path, status: str, kind: Any) -> None:
    """Without files it would pass for an interval without data."""
    scripted.script(ok({"id": JOB}, 202), done([], 0), ok({"id": JOB, "status": status, "files": []}))
    with pytest.raises(kind, match=status):
        operator(tmp_path).execute(context())
    assert not (tmp_path / "_manifests").exists()


@pytest.mark.parametrize("gone", ["at PostHog", "at the storage"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_files_that_are_gone_are_made_anew_once_in_a_try(
    scripted: ScriptedServer, make_server: Any, tmp_path: Path, gone: str, deferrable: bool
) -> None:
    storage = make_server(error(404))
    answer = error(400) if gone == "at PostHog" else Reply(302, {"Location": f"{storage.url}/x?sig=5ec7e7"})
    started, told = ok({"id": JOB}, 202), done([FILE], 1)
    scripted.script(*[started, told, told, answer] * 3, started, told, told, LINE)
    for attempt in (1, 2):
        task = operator(tmp_path, file_format="JSONLines", deferrable=deferrable)
        ctx = context(try_number=attempt)
        if attempt == 1:
            with pytest.raises(PostHogJobFailed, match="expired") as refused:
                drive(task, ctx)
            assert "5ec7e7" not in "".join(traceback.format_exception(refused.value))
        else:
            assert drive(task, ctx)["rows"] == 1
    assert [request.method for request in scripted.requests].count("POST") == 4


def test_each_week_may_expire_once(scripted: ScriptedServer, tmp_path: Path) -> None:
    started, told = ok({"id": JOB}, 202), done([FILE], 1)
    scripted.script(*[started, told, told, error(400), started, told, told, LINE] * 2)
    assert operator(tmp_path, start=day(12), file_format="JSONLines").execute(context())["rows"] == 2


def test_a_kill_does_not_wait_for_a_silent_storage(scripted: ScriptedServer, make_server: Any, tmp_path: Path) -> None:
    silent = make_server(Reply(200, {}, b"", delay=60))
    scripted.script(ok({"id": JOB}, 202), done([FILE], 1), done([FILE], 1), Reply(302, {"Location": silent.url}))
    began, task = time.monotonic(), operator(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        kill_while_waiting(task)
    assert time.monotonic() - began < 10
    task.on_kill()
    assert not any("/cancel/" in request.path for request in scripted.requests), "it has completed: a retry fetches it"


@pytest.mark.parametrize("body", [LINE.body, b""])
def test_a_thread_of_a_killed_try_records_nothing(
    scripted: ScriptedServer, make_server: Any, tmp_path: Path, body: bytes
) -> None:
    gate = threading.Event()
    storage = make_server(Reply(200, {}, body, gate=gate))
    scripted.script(ok({"id": JOB}, 202), done([FILE], 1), done([FILE], 1), Reply(302, {"Location": storage.url}))
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        kill_while_waiting(operator(tmp_path, file_format="JSONLines"))
    (fetching,) = [each for each in set(threading.enumerate()) - before if each.name.startswith("posthog-file")]
    gate.set()
    fetching.join(10)
    (progress,) = tmp_path.rglob("progress.json")
    assert json.loads(progress.read_text())["files"] == []


def test_a_thread_of_a_killed_try_asks_no_more(scripted: ScriptedServer, make_server: Any, tmp_path: Path) -> None:
    storage = make_server(Reply(cut="after"))
    scripted.script(ok({"id": JOB}, 202), done([FILE], 1), done([FILE], 1), Reply(302, {"Location": storage.url}))
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        kill_while_waiting(operator(tmp_path))
    asked = storage.attempts
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("posthog-file"):
            thread.join(1.5)
            assert not thread.is_alive()
    assert storage.attempts == asked < 5


def test_a_file_that_is_listed_twice(scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.script(ok({"id": JOB}, 202), done([FILE, FILE], 1), done([FILE, FILE], 1), LINE)
    assert operator(tmp_path, file_format="JSONLines").execute(context())["rows"] == 1


def test_a_parquet_file_with_a_broken_footer(scripted: ScriptedServer, tmp_path: Path) -> None:
    """Arrow says OSError, as a storage that cannot be read would; but fetching it again brings the same."""
    for number, rest in enumerate((b"\xff" * 40 + b"\x28\0\0\0", b"\0\xff\0\0", b"")):
        body = Reply(200, {"Content-Type": "application/octet-stream"}, b"PAR1" + rest + b"PAR1")
        scripted.script(ok({"id": JOB}, 202), done([FILE], 5), done([FILE], 5), body)
        with pytest.raises(BrokenFileError, match="Parquet"):
            operator(tmp_path / str(number)).execute(context())


def test_a_cut_parquet_file(scripted: ScriptedServer, tmp_path: Path) -> None:
    body = Reply(200, {"Content-Type": "application/octet-stream"}, b"PAR1 and no end")
    scripted.script(ok({"id": JOB}, 202), done([FILE], 5), done([FILE], 5), body)
    with pytest.raises(PostHogIncompleteError, match="Parquet"):
        operator(tmp_path).execute(context())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "progress.json"] == []
    # Fetching them again would bring the same: a retry has them made again.
    scripted.script(ok({"id": JOB}, 202), done([], 0))
    assert operator(tmp_path).execute(context(try_number=2))["files"] == []
    assert scripted.requests[0].method == "POST"


def test_the_key_stays_at_home(scripted: ScriptedServer, make_server: Any, tmp_path: Path) -> None:
    storage = make_server(Reply(200, {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n'))
    redirect = Reply(302, {"Location": f"{storage.url}/x?sig=1"})
    scripted.script(ok({"id": JOB}, 202), done([FILE], 1), done([FILE], 1), redirect)
    assert operator(tmp_path, file_format="JSONLines").execute(context())["rows"] == 1
    assert "authorization" not in storage.requests[0].headers
    assert "phx_" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_expired_addresses_are_asked_for_anew(scripted: ScriptedServer, make_server: Any, tmp_path: Path) -> None:
    storage = make_server(error(403), Reply(200, {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n'))
    redirects = [Reply(302, {"Location": f"{storage.url}/x?sig={number}"}) for number in (1, 2)]
    scripted.script(ok({"id": JOB}, 202), done([FILE], 1), done([FILE], 1), *redirects)
    assert operator(tmp_path, file_format="JSONLines").execute(context())["rows"] == 1
    assert [request.path for request in storage.requests] == ["/x?sig=1", "/x?sig=2"]


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_unanswered_start_of_an_earlier_try_is_told_of(
    scripted: ScriptedServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    """But not one that was refused: nothing was started then."""
    scripted.script(error(status))
    with pytest.raises(PostHogError, match=str(status)):
        operator(tmp_path).execute(context())
    scripted.script(ok({"id": JOB}, 202), done([], 0))
    with caplog.at_level("WARNING"):
        assert operator(tmp_path).execute(context(try_number=2))["files"] == []
    said = caplog.text + capsys.readouterr().out  # Airflow 3's own logging goes there
    assert ("may have started a file download of this week" in said) == (status == 500)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "groups"}, "model"),
        ({"path": "/"}, "path"),
        ({"start": "2026-11-01"}, "start"),
        ({"start": "soon"}, "start"),
        ({"start": day(2)}, "end"),
        ({"end": (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()}, "end"),
        ({"file_format": "CSV"}, "file_format"),
        ({"file_format": "JSONLines", "compression": "zstd"}, "compression"),
        ({"model": "persons", "include": ["x"]}, "include"),
        ({"include": []}, "include"),
        ({"max_size_mb": -1}, "max_size_mb"),
        ({"name": "../x"}, "name"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"wait_for_completion": False}, "wait_for_completion"),
        ({"poll_interval": 0}, "poll_interval"),
    ],
)
def test_what_is_refused(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str) -> None:
    given = {"path": tmp_path, **options}
    with pytest.raises(PostHogSettingsError) as refused:
        operator(given.pop("path"), **given).execute(context())
    assert refused.value.field == field
    assert posts(connection) == []


def test_the_data_interval(quick: EmulatorProcess, tmp_path: Path) -> None:
    asset, told = SimpleNamespace(uri="s3://lake/events"), SimpleNamespace(extra={})
    span = {"data_interval_start": MIDNIGHT - timedelta(days=3), "data_interval_end": MIDNIGHT - timedelta(days=2)}
    task: Any = operator(tmp_path, start=None, end=None)
    task.outlets = [asset]
    ctx = {**context(), **span, "outlet_events": SimpleEvents(told)}
    found = task.execute(ctx)
    assert posts(quick)[0]["body"]["data_interval_start"] == day(3)
    assert told.extra["rows"] == found["rows"] > 100
    with pytest.raises(PostHogSettingsError, match="no data interval"):
        operator(tmp_path, start=None, end=None).execute(context())
    with pytest.raises(PostHogSettingsError, match="create_cron_data_intervals"):
        operator(tmp_path, start=None, end=None).execute({**ctx, "data_interval_end": MIDNIGHT - timedelta(days=3)})


class SimpleEvents:
    def __init__(self, told: SimpleNamespace) -> None:
        self._told = told

    def __getitem__(self, asset: object) -> SimpleNamespace:
        return self._told


def test_s3(quick: EmulatorProcess, s3: tuple[Any, Any]) -> None:
    fs, client = s3
    attach("s3", conn_id="lake_conn", fs=fs)
    for run_id in ("one", "two"):
        task = operator("s3://lake_conn@lake/[t]*able/", start=day(12), end=day(2))
        found = task.execute(context(run_id=run_id))
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="lake")["Contents"]]
    assert sorted(key.rpartition("/")[0] for key in keys) == ["[t]*able"] * 2 + ["[t]*able/_manifests"]
    assert found["rows"] == quick.count_events(day(12), day(2), "created_at")
    for file in found["files"]:
        key = file["path"].partition("@lake/")[2]
        content = client.get_object(Bucket="lake", Key=key)["Body"].read()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]


@pytest.mark.reliability
def test_killed_at_any_time(quick: EmulatorProcess, tmp_path: Path) -> None:
    """Tries are killed and killed again: exact rows, and nothing left over."""
    quick.settings(rows_per_file=800)
    lake = tmp_path / "lake"
    options = {
        "path": str(lake), "start": day(12), "end": day(2), "poll_interval": 0.05, "max_in_flight": 2,
        "deferrable": False,
    }  # fmt: skip
    with Tries(PostHogFileDownloadOperator, quick.airflow_connection_json(), tmp_path) as tries:
        began = time.monotonic()
        found = tries.run(options, run_id="before")
        took = time.monotonic() - began
        assert found is not None
        seen = ids(lake)

        def check() -> None:
            (manifest,) = (lake / "_manifests").glob("*.json")
            listed = [lake / file["path"] for file in json.loads(manifest.read_text())["files"]]
            assert sorted(uuid for path in listed for uuid in parquet.read_table(path)["uuid"].to_pylist()) == seen

        again = tries.kill_often(options, took, 5, check)
    assert again["rows"] == found["rows"] == len(seen)
    assert ids(lake) == seen
    assert len(everything(lake)) == len(again["files"]) + 1
