"""What the stand-in of test_mysql.py cannot show: a real server, with engines, collations and rights of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.remapping import Remapping
from tests.load.databases import DAY, SCHEMA, START, appending, events, merging, replacing
from tests.load.mariadb import MariaDB, mariadb_database
from tests.support.waiting import wait_for


@pytest.fixture
def maria() -> Iterator[MariaDB]:
    with mariadb_database() as database:
        yield database


@pytest.mark.parametrize("write", [replacing, merging, appending])
@pytest.mark.parametrize("autocommit", [False, True])
def test_loads_can_be_repeated_and_are_undone(maria: MariaDB, write: Any, autocommit: bool) -> None:
    maria.options = {"autocommit": autocommit}
    for count in (1_500, 1_500, 1_501):
        maria.load(write(), events(count))
    with maria.loader(write()) as loader:
        loader.open(SCHEMA)
        loader.write(events(1_600, event="half"))
    assert maria.count() == 1_501
    assert maria.count(where="event = 'half'") == 0


@pytest.mark.parametrize("write", [replacing, merging, appending])
@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_an_engine_without_transactions_is_refused_before_anything_is_written(
    maria: MariaDB, write: Any, engine: str
) -> None:
    columns = "uuid varchar(40) primary key, event varchar(9), created_at datetime(6), properties varchar(99)"
    maria.run(f"CREATE TABLE events ({columns}) ENGINE = {engine}")
    with pytest.raises(PostHogSettingsError, match=rf"engine \({engine}\) has no transactions"):
        maria.load(write(), events(3))
    assert maria.count() == 0
    maria.run("ALTER TABLE events ENGINE = InnoDB")
    maria.load(write(), events(3))
    assert maria.count() == 3


def test_a_table_that_the_server_makes_without_transactions_is_refused_and_not_left(maria: MariaDB) -> None:
    maria.run("SET GLOBAL default_storage_engine = MyISAM")
    with pytest.raises(PostHogSettingsError, match="MyISAM"):
        maria.load(replacing(), events(3))
    assert maria.rows("SHOW TABLES") == []


def test_the_quarantine_has_transactions_too(maria: MariaDB) -> None:
    given = {"casts": {"n": ("bigint", False)}, "schema_policy": "quarantine", "label": "dag.task"}
    table = pa.table({"id": ["1", "2"], "n": ["1", "x"]})
    maria.load(merging("t", ("id",)), table.set_column(1, "n", pa.array([1, 2])))
    maria.run("SET GLOBAL default_storage_engine = MyISAM")
    maria.load(merging("t", ("id",), **given), table)
    with maria.loader(merging("t", ("id",), **given)) as loader:
        loader.open(table.schema)
        loader.write(table.slice(0, 1))
        loader.write(table)
    assert maria.count("t__rejected") == 1, "a load that ends without a commit has changed nothing"
    maria.run("ALTER TABLE t__rejected ENGINE = MyISAM")
    with pytest.raises(PostHogSettingsError, match=r"t__rejected, whose engine \(MyISAM\)"):
        maria.load(merging("t", ("id",), **given), table)


def test_loads_with_a_quarantine_take_turns(maria: MariaDB) -> None:
    table = pa.table({"id": ["1", "2"], "n": ["1", "x"], "at": pa.array([START, START], SCHEMA.field(2).type)})

    def loader() -> Any:
        given = {"casts": {"n": ("bigint", False)}, "schema_policy": "quarantine", "label": "dag.task"}
        return maria.loader(merging("t", ("id",), by="at", start=START, end=START + DAY, **given))

    def load() -> None:
        with loader() as second:
            second.open(table.schema)
            second.write(table)
            ended.append(second.commit().unchanged)

    ended: list[int | None] = []
    with loader() as first:
        first.open(table.schema)
        first.write(table)
        thread = threading.Thread(target=load)
        thread.start()
        wait_for(lambda: _waits(maria), what="the second load, for its turn")
        first.commit()
    thread.join()
    assert (ended, maria.count("t"), maria.count("t__rejected")) == ([1], 1, 1)


def _waits(maria: MariaDB) -> bool:
    return any("GET_LOCK" in str(row) for row in maria.rows("SHOW FULL PROCESSLIST"))


def test_a_table_without_transactions_is_not_remapped(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (distinct_id text, person_id text) ENGINE = MyISAM")
    with maria.loader(merging("mapping", ("distinct_id",))) as loader:
        with pytest.raises(PostHogSettingsError, match="events, whose engine"):
            Remapping(["events"]).check(loader)
        maria.run("ALTER TABLE events ENGINE = InnoDB")
        Remapping(["events"]).check(loader)


def test_a_partitioned_table_is_filled(maria: MariaDB) -> None:
    maria.run(
        "CREATE TABLE events (uuid varchar(40), event text, created_at datetime(6), properties text) "
        "PARTITION BY RANGE COLUMNS (created_at) "
        "(PARTITION a VALUES LESS THAN ('2026-11-15'), PARTITION b VALUES LESS THAN (MAXVALUE))"
    )
    for count in (5, 6):
        maria.load(replacing(), events(count))
    assert maria.count() == 6


@pytest.mark.parametrize("write", [merging, appending])
def test_keys_of_posthogs_length_and_with_blanks_at_their_end_are_kept(maria: MariaDB, write: Any) -> None:
    keys = ["x" * 400, "acme", "acme ", "Acme", "e\u0301", "\u00e9", "\U0001f4a5" * 400, ""]
    table = pa.table({"distinct_id": keys, "n": list(range(len(keys)))})
    for inserted in (len(keys), 0):
        loaded = maria.load(write("t", ("distinct_id",)), table)
        assert (loaded.rows, loaded.inserted) == (len(keys), inserted)
    assert sorted(maria.rows("SELECT distinct_id, n FROM t")) == sorted(zip(keys, range(len(keys)), strict=True))


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize(
    ("collation", "keys"),
    [
        ("utf8mb4_bin", ["acme", "acme "]),
        ("utf8mb4_general_ci", ["Acme", "acme"]),
        ("utf8mb4_unicode_ci", ["é", "e"]),
    ],
)
def test_keys_that_a_tables_collation_takes_for_one_are_told_by_their_column(
    maria: MariaDB, write: Any, collation: str, keys: list[str]
) -> None:
    maria.run(f"CREATE TABLE t (k varchar(50) COLLATE {collation}, n bigint, PRIMARY KEY (k))")
    both = pa.table({"k": keys, "n": [1, 2]})
    for tables in ([both], [both.slice(0, 1), both.slice(1)]):
        with pytest.raises(PostHogLoadError, match=r"that differ in k, .*nopad_bin") as refused:
            maria.load(write("t", ("k",)), *tables)
        assert keys[0] not in str(refused.value)
    assert maria.count("t") == 0
    maria.load(write("t", ("k",)), both.slice(0, 1))
    with pytest.raises(PostHogLoadError, match="that differ in k"):
        maria.load(write("t", ("k",)), both.slice(1))
    assert maria.rows("SELECT k, n FROM t") == [(keys[0], 1)]


def test_a_key_that_is_too_long_for_its_column_is_told_by_the_column_whatever_the_servers_mode(maria: MariaDB) -> None:
    maria.options = {"sql_mode": ""}
    maria.run("CREATE TABLE t (k varchar(5) PRIMARY KEY, n bigint)")
    with pytest.raises(PostHogLoadError, match=r"Data too long .*\(column k\)") as refused:
        maria.load(merging("t", ("k",)), pa.table({"k": ["short", "longer"], "n": [1, 2]}))
    assert "longer" not in str(refused.value)
    assert maria.count("t") == 0


def test_names_of_columns_and_keys_are_told_and_values_are_not(maria: MariaDB) -> None:
    maria.load(merging(), events(1))
    maria.run("ALTER TABLE events ADD UNIQUE KEY one_each (event(50))")
    with pytest.raises(PostHogLoadError, match=r"\(key one_each\)") as refused:
        maria.load(merging(), events(3, first=5, event="jane's\n \"secret\" for key 'x'"))
    assert "jane" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_values_of_other_columns_stay_by_merge_and_append(maria: MariaDB) -> None:
    maria.load(merging(), events(2))
    maria.run("ALTER TABLE events ADD note text DEFAULT NULL, ADD seen int", "UPDATE events SET note = 'mine'")
    loaded = maria.load(merging(), events(3, event="new"))
    assert (loaded.rows, loaded.changed, loaded.inserted) == (3, 2, 1)
    maria.load(appending(), events(4, event="newer"))
    found = maria.rows("SELECT event, note FROM events ORDER BY uuid")
    assert found == [("new", "mine"), ("new", "mine"), ("new", None), ("newer", None)]
    with pytest.raises(PostHogSettingsError, match="other_columns='null'"):
        maria.load(replacing(), events(3))
    maria.load(replacing(other_columns="null"), events(3))
    assert maria.rows("SELECT DISTINCT note FROM events") == [(None,)]


@pytest.mark.parametrize(
    ("write", "rights", "missing"),
    [
        (replacing, "SELECT, INSERT", "DELETE"),
        (merging, "SELECT, INSERT", "UPDATE"),
        (appending, "SELECT", "INSERT"),
        (appending, "INSERT", "SELECT"),
    ],
)
def test_a_right_that_is_missing_is_told_before_rows_are_read(
    maria: MariaDB, write: Any, rights: str, missing: str
) -> None:
    maria.load(write(), events(1))
    maria.run("CREATE USER reader", f"GRANT {rights} ON warehouse.events TO reader")
    with (
        MariaDB("reader").loader(write()) as loader,
        pytest.raises(PostHogLoadError, match=f"whether the user may {missing} on events.*denied"),
    ):
        loader.open(SCHEMA)


def test_types_of_the_users_own(maria: MariaDB) -> None:
    table = events(2).append_column("paid", pa.array([0, 1], pa.uint8()))
    table = table.append_column("n", pa.array([5, 2**64 - 1], pa.uint64()))
    for write in (merging, replacing):
        maria.load(write(write.__name__, column_types={"uuid": "uuid", "paid": "boolean"}), table)
        maria.load(write(write.__name__, column_types={"uuid": "uuid", "paid": "boolean"}), table)
        found = maria.rows(f"SELECT paid, n FROM {write.__name__} ORDER BY n DESC")
        assert found == [(1, 2**64 - 1), (0, 5)]
