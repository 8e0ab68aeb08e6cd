"""Names of intervals, and what is read back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.manifest import (
    MAX_KEY,
    MAX_NAME,
    NULL_PARTITION,
    DataFile,
    Interval,
    partition_path,
)
from tests.storage.crashing import memory

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

FIRST = datetime(2026, 11, 1, tzinfo=timezone.utc)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", fullmatch=True),
    moments,
    st.timedeltas(timedelta(microseconds=1), timedelta(days=9000)),
)
def test_stems_are_read_back(name: str, start: datetime, length: timedelta) -> None:
    interval = Interval(name, start, start + length)
    assert Interval.of_stem(interval.stem) == interval


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", fullmatch=True), moments)
def test_stems_of_snapshots_are_read_back(name: str, moment: datetime) -> None:
    snapshot = Interval.snapshot(name, moment)
    assert Interval.of_stem(snapshot.stem) == snapshot


def test_no_snapshot_has_the_name_of_an_interval() -> None:
    odd = "x_20261101T000000Z", "x_at", "x_at_20261101T000000Z", "x_at_20261101T000000Z_20261102T000000Z"
    made = [Interval.snapshot(name, FIRST) for name in ("x", *odd)]
    made += [Interval(name, FIRST, FIRST + timedelta(days=1)) for name in ("x", *odd)]
    assert len({one.stem for one in made}) == len(made)
    assert [Interval.of_stem(one.stem) for one in made] == made


def test_stems() -> None:
    zone = timezone(timedelta(hours=-5))
    interval = Interval("events", datetime(2026, 10, 31, 19, tzinfo=zone), FIRST + timedelta(microseconds=7))
    assert interval.stem == "events_20261101T000000Z_20261101T000000000007Z"
    assert interval.as_json() == {"start": "2026-11-01T00:00:00Z", "end": "2026-11-01T00:00:00.000007Z"}
    for other in ("", "events", "x_20261101T000000Z_20261101T000000Z", "x_20261301T000000Z_20271101T000000Z"):
        assert Interval.of_stem(other) is None


@pytest.mark.parametrize(
    ("name", "start", "end", "field"),
    [
        ("", FIRST, FIRST + timedelta(1), "name"),
        ("a/b", FIRST, FIRST + timedelta(1), "name"),
        (".a", FIRST, FIRST + timedelta(1), "name"),
        ("a", FIRST.replace(tzinfo=None), FIRST + timedelta(1), "start"),
        ("a", FIRST, FIRST, "end"),
    ],
)
def test_what_is_refused(name: str, start: datetime, end: datetime, field: str) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        Interval(name, start, end)
    assert refused.value.field == field


def test_manifests_are_listed_by_name() -> None:
    fs, root = memory()
    assert manifests.written(fs, root, "events") == []
    assert manifests.read(fs, root, Interval("events", FIRST, FIRST + timedelta(1))) is None
    made = [Interval("events", FIRST + timedelta(n), FIRST + timedelta(n + 1)) for n in (2, 0, 1)]
    for interval in (*made, Interval("events_more", FIRST, FIRST + timedelta(1))):
        file = DataFile("date=x/a.txt", 1, "00", 2, {"date": "x"})
        manifests.write(fs, root, interval, {"version": 1, "files": [file.as_json()]}, part=f"{root}/part")
    fs.pipe_file(f"{root}/_manifests/notes.txt", b"")
    assert manifests.written(fs, root, "events") == sorted(made, key=lambda one: one.start)
    found = manifests.read(fs, root, made[0])
    assert found is not None
    assert DataFile(**found["files"][0]) == DataFile("date=x/a.txt", 1, "00", 2, {"date": "x"})


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 2, "files": []}', b'{"version": 1, "files": 1}'])
def test_what_is_no_manifest(content: bytes) -> None:
    fs, root = memory()
    interval = Interval("events", FIRST, FIRST + timedelta(1))
    fs.pipe_file(manifests.path_of(root, interval), content)
    with pytest.raises(PostHogError, match="is not a manifest"):
        manifests.read(fs, root, interval)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15))
def test_partitions_are_one_folder_each(value: str) -> None:
    path = partition_path({"a b": value})
    column, _, rest = path.removesuffix("/").partition("=")
    assert (unquote(column), unquote(rest)) == ("a b", value)
    assert path.count("/") == 1
    assert path.isprintable()
    assert not set(rest) & set('\\:*?"<>|=#[]^~')
    assert rest[-1] not in ". "


@given(
    st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("页П%/ .~"), min_size=1, max_size=400),
    st.text("lake/é", max_size=900),
)
def test_a_folder_s_name_fits_into_every_file_system_whatever_the_value(value: str, root: str) -> None:
    path = partition_path({"event": value}, root)
    assert len(path.removesuffix("/").encode()) <= MAX_NAME
    assert len(f"{root}/{path}".encode()) <= MAX_KEY - 200 or len(path.encode()) <= 66
    assert path == partition_path({"event": value}, root), "equal values stay together"
    text = unquote(path.removesuffix("/").partition("=")[2], errors="strict")
    if "~" in path:
        assert value.startswith(text.rpartition("~")[0])
    else:
        assert text == value


def test_letters_of_any_language_stay_as_they_are() -> None:
    for value in ("Пользователь нажал на кнопку оплаты заказа", "页" * 80, "Größe 🦔"):
        assert partition_path({"event": value}) == f"event={value}/"


def test_long_values_that_begin_alike_get_folders_of_their_own() -> None:
    paths = [partition_path({"event": "页" * 200 + end}) for end in ("a", "b", "a")]
    assert paths[0] == paths[2] != paths[1]
    assert partition_path({"event": paths[0].removesuffix("/").removeprefix("event=")}) != paths[0], "forged"


def test_the_word_for_null_is_a_text_like_any_other() -> None:
    assert partition_path({"a": NULL_PARTITION}) != partition_path({"a": None})


def test_odd_partitions() -> None:
    assert partition_path({}) == ""
    assert partition_path({"a": None, "b": ""}) == "a=__HIVE_DEFAULT_PARTITION__/b=__HIVE_DEFAULT_PARTITION__/"
