"""PostgreSQL's own ways."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.postgres import PostgresLoader, connect
from tests.load.databases import DAY, END, SCHEMA, START, Postgres, appending, events, merging, replacing
from tests.support.waiting import wait_for


@pytest.fixture(params=["psycopg2", "psycopg"])
def server(request: pytest.FixtureRequest, postgres: Postgres) -> Postgres:
    return postgres.through(request.param)


def test_the_table_is_made_with_what_its_writing_needs(postgres: Postgres) -> None:
    postgres.load(replacing("by_interval"), events(1))
    postgres.load(merging("by_key"), events(1))
    types = postgres.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'by_key' ORDER BY 1"
    )
    assert types == [
        ("created_at", "timestamp with time zone"),
        ("event", "text"),
        ("properties", "text"),
        ("uuid", "text"),
    ]
    indexes = [row[0] for row in postgres.rows("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")]
    assert any("by_interval" in index and "(created_at)" in index for index in indexes)
    assert any("UNIQUE" in index and "by_key" in index and "(uuid)" in index for index in indexes)


def test_the_users_own_column_types_are_filled(server: Postgres) -> None:
    server.run(
        "CREATE TYPE word AS ENUM ('click', 'view')",
        "CREATE TABLE events (uuid uuid PRIMARY KEY, event word NOT NULL, created_at timestamptz(3), "
        "properties jsonb, n numeric(12, 2), loaded timestamptz DEFAULT now(), id bigint GENERATED ALWAYS AS IDENTITY)",
    )
    table = events(2).append_column("n", pa.array([1, 2], pa.int32()))
    zero = r'{"a": "\u0000", "b": "\\u0000", "c": "\\\u0000\u0000\u0041"}'
    table = table.set_column(3, "properties", pa.array([zero, None]))
    for write in (replacing, merging, appending):
        server.load(write(), table)
    found = server.rows("SELECT properties->>'a', properties->>'b', properties->>'c', n FROM events ORDER BY uuid")
    assert [tuple(map(str, row)) for row in found] == [
        ("\ufffd", r"\u0000", "\\\ufffd\ufffdA", "1.00"),
        ("None", "None", "None", "2.00"),
    ]


@pytest.mark.parametrize("sql_type", ["varchar(3)", "char(3)"])
def test_text_that_is_too_long_for_its_column_is_refused_not_cut(server: Postgres, sql_type: str) -> None:
    server.load(replacing(column_types={"event": sql_type}), events(1, event="abc"))
    with pytest.raises(PostHogLoadError, match="22001"):
        server.load(replacing(), events(2, event="abcd"))
    assert server.rows("SELECT event FROM events") == [("abc",)]


def test_values_that_a_column_refuses_are_not_shown(server: Postgres) -> None:
    server.load(replacing(column_types={"uuid": "uuid"}), events(1))
    secret = events(1).set_column(0, "uuid", pa.array(["jane\"d'oe"]))
    with pytest.raises(PostHogLoadError) as refused:
        server.load(replacing(), secret)
    assert refused.value.sqlstate == "22P02"
    assert "jane" not in str(refused.value)
    assert "oe" not in str(refused.value).replace("does", "")
    assert server.count() == 1


@pytest.mark.parametrize("write", [merging, appending])
def test_a_table_without_a_unique_index_can_not_be_merged_into(postgres: Postgres, write: Any) -> None:
    postgres.load(replacing(), events(1))
    postgres.run("CREATE UNIQUE INDEX partly ON events (uuid) WHERE event = 'x'")
    with pytest.raises(PostHogSettingsError, match=r'CREATE UNIQUE INDEX ON "events" \("uuid"\)'):
        postgres.load(write(), events(1).append_column("more", pa.array(["x"])))
    assert postgres.columns() == SCHEMA.names
    postgres.run('CREATE UNIQUE INDEX ON "events" ("uuid")')
    postgres.load(write(), events(2))
    assert postgres.count() == 2


def test_names_without_quotes_are_folded_and_schemas_kept_apart(postgres: Postgres) -> None:
    postgres.run('CREATE SCHEMA analytics; CREATE SCHEMA "Analytics"')
    postgres.load(replacing("Analytics.Events"), events(1))
    postgres.load(replacing('"Analytics"."Events"'), events(2))
    postgres.load(replacing("EVENTS"), events(3))
    assert [postgres.count(name) for name in ("analytics.events", '"Analytics"."Events"', "public.events")] == [1, 2, 3]
    with pytest.raises(PostHogLoadError, match="3F000"):
        postgres.load(replacing("nowhere.events"), events(1))


def test_names_that_would_be_cut_are_refused(postgres: Postgres) -> None:
    with pytest.raises(PostHogSettingsError, match="longer than"):
        postgres.load(replacing(), events(1).append_column("ä" * 32, pa.array(["x"])))
    with pytest.raises(PostHogSettingsError, match="longer than"):
        postgres.load(replacing("t" * 64), events(1))


def test_cursors_of_dictionaries_and_another_isolation_do_no_harm(server: Postgres) -> None:
    """A connection's extra can ask for them."""
    connection = server.connect()
    connection.autocommit = True
    if server.driver == "psycopg2":
        import psycopg2.extras

        connection.cursor_factory = psycopg2.extras.RealDictCursor
    else:
        import psycopg.rows

        connection.row_factory = psycopg.rows.dict_row
    with closing(connection.cursor()) as cursor:
        cursor.execute("SET default_transaction_isolation TO 'serializable'")
        cursor.execute("SET timezone TO 'America/New_York'")
    with server.loader_of(connection, merging()) as loader:
        loader.open(SCHEMA)
        loader.write(events(5))
        assert loader.commit().rows == 5
    assert server.count(where=f"created_at >= '{START.isoformat()}'") == 5


def test_nothing_of_the_table_is_locked_while_rows_come(server: Postgres) -> None:
    server.load(replacing(), events(5))
    with server.loader(replacing()) as loader:
        loader.open(SCHEMA)
        loader.write(events(5, first=10))
        assert (
            server.rows("SELECT mode FROM pg_locks WHERE relation = 'events'::regclass AND pid <> pg_backend_pid()")
            == []
        )
        server.run("ALTER TABLE events ADD COLUMN later text")
        loader.commit()
    assert server.count() == 5


def test_waiting_for_posthog_outlasts_the_servers_limits(server: Postgres) -> None:
    connection = server.connect()
    with closing(connection.cursor()) as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout TO 300")
    connection.commit()
    with server.loader_of(connection, replacing()) as loader:
        loader.open(SCHEMA)
        server.rows("SELECT pg_sleep(0.8)")
        loader.write(events(1))
        loader.commit()
    assert server.count() == 1


def test_a_connection_that_is_killed_leaves_the_old_rows(server: Postgres) -> None:
    server.load(replacing(), events(100))
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state LIKE 'idle%'"
    )
    with server.loader(replacing()) as loader:
        loader.open(SCHEMA)
        loader.write(events(50, first=500))
        assert server.rows(others)
        with pytest.raises(PostHogLoadError, match="Nothing was changed"):
            loader.write(events(50, first=600))
    assert server.uuids() == sorted(events(100).column("uuid").to_pylist())


def test_loads_of_several_intervals_at_once(server: Postgres) -> None:
    """Also the first ones, which both want to make the table and later a column."""
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    def load(number: int) -> None:
        try:
            for width in range(2):
                rows = events(300, first=number * 1000, start=START + number * DAY)
                for name in ["one", "two"][:width]:
                    rows = rows.append_column(name, pa.array(["x"] * 300))
                together.wait(30)
                server.load(replacing(start=START + number * DAY, end=END + number * DAY), rows)
        except BaseException as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert server.count() == 1200
    assert server.count(where="one = 'x'") == 1200


def test_loads_of_one_interval_at_once_do_not_double_it(server: Postgres) -> None:
    server.load(replacing(), events(10))
    with server.loader(replacing()) as one, server.loader(replacing()) as other:
        for number, loader in enumerate((one, other)):
            loader.open(SCHEMA)
            loader.write(events(20, first=100 * number))
        one.commit()
        assert other.commit().deleted == 20
    assert server.uuids() == events(20, first=100).column("uuid").to_pylist()


def test_loads_of_one_interval_that_end_at_once_wait_for_each_other(server: Postgres) -> None:
    """Whatever the user's isolation is, as the second must see what the first has committed."""
    server.load(replacing(), events(10))

    def loader() -> PostgresLoader:
        connection = server.connect()
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET default_transaction_isolation TO 'repeatable read'")
        connection.commit()
        return server.loader_of(connection, replacing())

    with loader() as one, loader() as other:
        for number, each in enumerate((one, other)):
            each.open(SCHEMA)
            each.write(events(20, first=100 * number))
        one._finish()
        failures: list[BaseException] = []

        def commit() -> None:
            try:
                other.commit()
            except BaseException as error:
                failures.append(error)

        second = threading.Thread(target=commit)
        second.start()
        wait_for(
            lambda: server.rows("SELECT 1 FROM pg_locks WHERE NOT granted") != [], what="the second load's waiting"
        )
        one._commit()
        second.join(30)
    assert failures == []
    assert server.uuids() == events(20, first=100).column("uuid").to_pylist()


def test_times_without_a_zone_are_utc_whatever_the_session_s_zone(server: Postgres) -> None:
    server.run("CREATE TABLE events (uuid text, event text, created_at timestamp, properties text)")
    for _ in range(2):
        connection = server.connect()
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET timezone TO 'America/New_York'")
        connection.commit()
        with server.loader_of(connection, replacing()) as loader:
            loader.open(SCHEMA)
            loader.write(events(1))
            loader.commit()
    assert server.rows("SELECT created_at FROM events") == [(START.replace(tzinfo=None),)]


def test_rows_that_something_else_adds_are_noticed(server: Postgres) -> None:
    """They would be doubled by it, or lost."""
    server.load(replacing(), events(10))
    server.run(
        "CREATE FUNCTION twice() RETURNS trigger AS $$ BEGIN IF NEW.event = 'click' THEN "
        "NEW.event := 'again'; INSERT INTO events SELECT NEW.*; END IF; RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER twice BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION twice()",
    )
    with pytest.raises(Exception, match=r"would hold 40 rows of the interval, but 20"):
        server.load(replacing(), events(20))
    assert server.count() == 10


def test_a_partitioned_table_is_filled(server: Postgres) -> None:
    server.run(
        "CREATE TABLE events (uuid text, event text, created_at timestamptz, properties text) "
        "PARTITION BY RANGE (created_at)",
        f"CREATE TABLE first PARTITION OF events FOR VALUES FROM ('{START.isoformat()}') TO ('{END.isoformat()}')",
    )
    server.load(replacing(), events(5))
    server.load(replacing(), events(6))
    assert server.count("first") == 6
    with pytest.raises(PostHogLoadError, match="23514"):
        server.load(replacing(start=END, end=END + DAY), events(1, start=END + timedelta(hours=1)))


def test_connecting_without_airflows_provider(postgres: Postgres) -> None:
    options = {"application_name": "posthog", "cursor": "dictcursor", "connect_timeout": 5}
    with closing(
        connect(
            host=str(postgres.folder), port=None, user="postgres", password="", database="postgres", options=options
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT current_setting('application_name')")
        assert cursor.fetchone() == ("posthog",)
