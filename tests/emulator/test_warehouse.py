"""The store itself: events put in, several projects in a process, threads, speed, and JSON-ready values."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, Warehouse
from airflow_provider_posthog.emulator.hogql.results import converter, reported_type

START = datetime(2026, 7, 1, tzinfo=timezone.utc)


@pytest.fixture
def empty() -> Iterator[Warehouse]:
    house = Warehouse(events=0)
    yield house
    house.close()


def event(number: int, **changes: object) -> dict[str, object]:
    moment = START + timedelta(microseconds=number)
    return {
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "event": "put in",
        "distinct_id": f"somebody {number}",
        "person_id": "11111111-1111-4111-8111-111111111111",
        "timestamp": moment,
        "created_at": moment + timedelta(seconds=1),
        "properties": {"n": number},
        **changes,
    }


def test_events_put_in_are_read_back(empty: Warehouse) -> None:
    text = "quotes \" ' \\ line\nbreak \t 💥 \u2028 \x00 end"
    empty.insert_events(
        [
            event(
                1,
                event=text,
                distinct_id=text,
                properties={"text": text, "nested": {"a": [1, None, 2.5]}, "$session_id": "s"},
            ),
            event(2, timestamp="2026-07-02T01:02:03.000004+02:00", created_at="2026-07-02T00:00:00Z"),
        ]
    )
    columns = "event, distinct_id, properties, $session_id, timestamp, created_at, toString(uuid), toString(person_id)"
    first, second = empty.query(f"select {columns} from events order by uuid").rows
    assert first[:2] == [text, text]
    assert json.loads(str(first[2])) == {"text": text, "nested": {"a": [1, None, 2.5]}, "$session_id": "s"}
    assert first[3] == "s"
    assert first[4:6] == ["2026-07-01T00:00:00.000001Z", "2026-07-01T00:00:01.000001Z"]
    assert first[6:] == ["00000000-0000-4000-8000-000000000001", "11111111-1111-4111-8111-111111111111"]
    assert second[4:6] == ["2026-07-01T23:02:03.000004Z", "2026-07-02T00:00:00Z"]


def test_many_events_put_in(empty: Warehouse) -> None:
    empty.insert_events(event(number) for number in range(5000))
    empty.insert_events([])
    assert empty.count_events(START, START + timedelta(microseconds=5000)) == 5000
    assert empty.count_events(START + timedelta(microseconds=1), START + timedelta(microseconds=4)) == 3
    assert empty.count_events(START, START + timedelta(microseconds=5000), "created_at") == 0
    # the same moment in another zone
    tokyo = timezone(timedelta(hours=9))
    assert empty.count_events(START.astimezone(tokyo), (START + timedelta(microseconds=7)).astimezone(tokyo)) == 7


def test_only_times_are_counted_by(empty: Warehouse) -> None:
    with pytest.raises(ValueError, match="created_at"):
        empty.count_events(START, START, "uuid")


def test_projects_are_apart(empty: Warehouse) -> None:
    other = Warehouse(events=0, timezone="Asia/Tokyo")
    empty.insert_events([event(1)])
    assert other.query("select count() from events").rows == [[0]]
    assert empty.query("select count() from events").rows == [[1]]
    assert (other.query("select 1").timezone, empty.query("select 1").timezone) == ("Asia/Tokyo", "UTC")
    other.close()
    other.close()
    assert empty.query("select count() from events").rows == [[1]]


def test_a_zone_that_does_not_exist(empty: Warehouse) -> None:
    with pytest.raises(ValueError, match="IANA"):
        empty.timezone = "Mars/Olympus"
    with pytest.raises(ValueError, match="IANA"):
        Warehouse(events=0, timezone="../etc/passwd")
    assert empty.timezone == "UTC"


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("select toDateTime('2026-01-01T00:00:00Z')", "2026-01-01T00:00:00Z"),
        ("select toDateTime('2026-01-01T00:00:00.5Z')", "2026-01-01T00:00:00.500000Z"),
        ("select [toDateTime('2026-01-01T00:00:00.000001Z'), null]", ["2026-01-01T00:00:00.000001Z", None]),
        ("select (toDateTime('2026-01-01T00:00:00Z'), 'a', 2.0)", ["2026-01-01T00:00:00Z", "a", 2.0]),
        ("select toStartOfDay(toDateTime('2026-01-01T05:00:00Z'))", "2026-01-01T00:00:00"),
        ("select [toStartOfDay(toDateTime('2026-01-01T05:00:00Z'))]", ["2026-01-01T00:00:00"]),
        ("select toDateTime('no time')", None),
        ("select map('a', toDateTime('2026-01-01T00:00:00Z'))", {"a": "2026-01-01T00:00:00.000000Z"}),
        ("select toUUID('11111111-1111-4111-8111-111111111111')", "11111111-1111-4111-8111-111111111111"),
        ("select toDecimal('1.5', 2)", "1.5"),
        ("select avg(number) from numbers(5)", 2.0),
        ("select quantiles(0.5, 1)(number) from numbers(5)", [2.0, 4.0]),
        ("select 1 / 0", None),
        ("select [1.0, 2.5]", [1.0, 2.5]),
        ("select geohashDecode('ezs42')", [-5.60302734375, 42.60498046875]),
        ("select _toUInt128(5)", 5),
        ('select \'{"a": "/x"}\'', '{"a": "/x"}'),
        ("select tuple()", []),
        ("select unhex('ff41')", "\ufffdA"),
    ],
)
def test_values_are_ready_for_json(empty: Warehouse, query: str, value: object) -> None:
    found = empty.query(query).rows[0][0]
    assert found == value
    assert type(found) is type(value)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "zone", "value", "answer"),
    [
        ("DateTime64(6, 'UTC')", "UTC", "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00Z"),
        ("DateTime64(6)", "Asia/Tokyo", "2026-01-01T00:00:00.000010Z", "2026-01-01T09:00:00.000010+09:00"),
        ("DateTime64(3, 'UTC')", "UTC", "2026-01-01T00:00:00.120Z", "2026-01-01T00:00:00.120000Z"),
        ("DateTime64(0, 'UTC')", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("DateTime64(9, 'UTC')", "UTC", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456Z"),
        ("Nullable(DateTime64(6, 'America/New_York'))", "UTC", None, None),
        (
            "Array(Tuple(a DateTime('UTC'), b Float32))",
            "UTC",
            [["2026-01-01T00:00:00Z", 1]],
            [["2026-01-01T00:00:00", 1.0]],
        ),
        ("LowCardinality(Nullable(Float64))", "UTC", 3, 3.0),
    ],
)
def test_conversions(kind: str, zone: str, value: object, answer: object) -> None:
    convert = converter(kind, zone)
    assert convert is not None
    assert convert(value) == answer


def test_kinds_that_need_no_conversion() -> None:
    for kind in ("String", "UInt64", "Array(String)", "Tuple(UInt8, String)", "Nullable(UUID)", "Date"):
        assert converter(kind, "UTC") is None
    assert reported_type("Nullable(DateTime('America/New_York'))") == "Nullable(DateTime)"
    assert reported_type("DateTime64(6, 'UTC')") == "DateTime64(6, 'UTC')"


def test_threads(empty: Warehouse) -> None:
    empty.insert_events(event(number) for number in range(200))
    failures: list[str] = []

    def ask(number: int) -> None:
        for _ in range(15):
            found = empty.query(
                "select distinct_id from events where uuid = {u}", {"u": str(event(number)["uuid"])}
            ).rows
            if found != [[f"somebody {number}"]]:
                failures.append(f"{number}: {found}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_long_query_holds_up_no_other_python_thread(empty: Warehouse) -> None:
    done = threading.Event()

    def ask() -> None:
        empty.query("select sum(cityHash64(number)) from numbers(200000000)")
        done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    ticks = 0
    while not done.wait(0.001):
        ticks += 1
    thread.join()
    assert ticks > 5


def test_small_queries_are_quick(empty: Warehouse) -> None:
    house = Warehouse()
    query = "select uuid, event, timestamp from events where created_at >= toDateTime({t}) order by timestamp limit 20"
    took = []
    for _ in range(15):
        began = time.perf_counter()
        house.query(query, {"t": "2020-01-01T00:00:00Z"})
        took.append(time.perf_counter() - began)
    house.close()
    assert sorted(took)[7] < 0.15, took  # 5 ms on a quiet machine


def test_fifty_thousand_events_are_quick(empty: Warehouse) -> None:
    house = Warehouse(events=50_000)
    began = time.process_time()
    result = house.query("select uuid, event, properties, timestamp, created_at, distinct_id from events limit 50000")
    took = time.process_time() - began
    house.close()
    assert len(result.rows) == 50_000
    assert took < 5, f"{took:.1f} s"  # 0.7 s on a quiet machine


def test_the_error_has_its_parts(empty: Warehouse) -> None:
    with pytest.raises(HogQLError) as caught:
        empty.query("select nope from events")
    error = caught.value
    assert (error.detail, error.code, error.attr, error.status) == (
        "Unable to resolve field: nope",
        "invalid_input",
        None,
        400,
    )
    assert str(error) == error.detail


def test_closing_the_last_project_removes_clickhouses_files() -> None:
    script = (
        "import glob, os, tempfile\n"
        "from airflow_provider_posthog.emulator.data.warehouse import Warehouse\n"
        "house = Warehouse(events=5)\n"
        "opened = glob.glob(os.path.join(tempfile.gettempdir(), 'clickhouse-embedded-*'))\n"
        "house.close()\n"
        "left = glob.glob(os.path.join(tempfile.gettempdir(), 'clickhouse-embedded-*'))\n"
        "again = Warehouse(events=5)\n"
        "print(len(opened), len(left), again.query('select count() from events').rows)\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            env=_environment(folder),
            check=True,
        )
    assert answer.stdout.split(maxsplit=2)[1:] == ["0", "[[5]]\n"]


def _environment(folder: str) -> dict[str, str]:
    import os

    return {**os.environ, "TMPDIR": folder}


def test_the_emulators_store_needs_no_airflow() -> None:
    script = (
        "import sys\nimport airflow_provider_posthog.emulator.data.warehouse\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('airflow', 'pandas', 'chdb', 'sqlglot')])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"
