"""PostgreSQL's own ways."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
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
        "CREATE TABLE events (uuid uuid PRIMARY KEY, event word NOT NULL, created_at timestamptz(6), "
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\ud83d", "\ufffd"),
        (r"a \uD83D b", "a \ufffd b"),
        (r"\ude00", "\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\uD83D\uDE00\ude00\ud83d\ud83d\ude00\u0000", "\U0001f600\ufffd\ufffd\U0001f600\ufffd"),
        (r"\\ud83d \\\ud83d \\\\ude00", "\\ud83d \\\ufffd \\\\ude00"),
        (r"\ud83d\\\ude00", "\ufffd\\\ufffd"),
    ],
)
def test_halves_of_a_surrogate_pair_do_not_stop_a_load_into_jsonb(postgres: Postgres, text: str, expected: str) -> None:
    """A script that cuts a text in the middle of an emoji leaves them in properties."""
    table = events(1).set_column(3, "properties", pa.array([f'{{"a": "{text}"}}']))
    postgres.load(replacing(column_types={"properties": "jsonb"}), table)
    assert postgres.rows("SELECT properties->>'a' FROM events") == [(expected,)]


@pytest.mark.parametrize("sql_type", ["varchar(3)", "char(3)", "short"])
def test_text_that_is_too_long_for_its_column_is_refused_not_cut(server: Postgres, sql_type: str) -> None:
    server.run("CREATE DOMAIN short AS varchar(3)")
    server.load(replacing(column_types={"event": sql_type}), events(1, event="abc"))
    with pytest.raises(PostHogLoadError, match="22001"):
        server.load(replacing(), events(2, event="abcd"))
    assert server.rows("SELECT event FROM events") == [("abc",)]


@pytest.mark.parametrize("sql_type", ["name", '"char"', "smaller"])
def test_columns_that_cut_or_round_whatever_is_done_are_refused(postgres: Postgres, sql_type: str) -> None:
    postgres.run(
        "CREATE DOMAIN smaller AS numeric(10, 2)",
        f"CREATE TABLE events (uuid text, event {sql_type}, created_at timestamptz, properties text)",
    )
    value = pa.array([1], pa.decimal128(20, 9)) if sql_type == "smaller" else pa.array(["x" * 70])
    with pytest.raises(PostHogSettingsError, match="'event' as"):
        postgres.load(replacing(), events(1).set_column(1, "event", value))


def test_a_float_keeps_its_digits_in_a_numeric(server: Postgres) -> None:
    server.load(replacing(column_types={"x": "numeric"}), events(1).append_column("x", pa.array([0.12345678901234567])))
    assert float(server.rows("SELECT x FROM events")[0][0]) == 0.12345678901234567


def test_texts_that_are_one_uuid_are_one_key(server: Postgres) -> None:
    uuids = [
        uuid.replace("0000", fill) for uuid in ("0000000a-0000-0000-0000-000000000000",) for fill in ("ABCD", "abcd")
    ]
    table = events(2).set_column(0, "uuid", pa.array(uuids)).set_column(1, "event", pa.array(["first", "last"]))
    for write, table_name in ((appending, "added"), (merging, "merged")):
        for count in (1, 0):
            loaded = server.load(write(table_name, column_types={"uuid": "uuid"}), table)
            assert loaded.rows == 1
            assert loaded.inserted in (count, None)
        assert server.rows(f"SELECT event FROM {table_name}") == [("last",)]


def test_a_trigger_that_keeps_old_rows_is_noticed(server: Postgres) -> None:
    """The keys are there, but not the values."""
    server.load(merging(), events(2))
    server.run(
        "CREATE FUNCTION keep() RETURNS trigger AS $$ BEGIN RETURN NULL; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER keep BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    with pytest.raises(PostHogIncompleteError, match="1 of the rows, but 3"):
        server.load(merging(), events(3, event="new"))
    assert server.count() == 2
    assert server.load(merging("keys"), events(2).select(["uuid"])).rows == 2
    assert server.load(merging("keys"), events(2).select(["uuid"])).rows == 2


@pytest.mark.parametrize(("deleted", "verb"), [("delete", "DELETE"), ("mark", "UPDATE")])
def test_a_trigger_that_keeps_rows_that_are_gone_is_noticed(server: Postgres, deleted: Any, verb: str) -> None:
    target = merging(whole=True, deleted=deleted)
    server.load(target, events(3))
    server.run(
        "CREATE FUNCTION stay() RETURNS trigger AS $$ BEGIN RETURN NULL; END $$ LANGUAGE plpgsql",
        f"CREATE TRIGGER stay BEFORE {verb} ON events FOR EACH ROW EXECUTE FUNCTION stay()",
    )
    with pytest.raises(
        PostHogIncompleteError, match="1 rows of events are gone from PostHog, and the database wrote 0"
    ):
        server.load(target, events(2))
    assert server.count() == 3


@pytest.mark.parametrize("write", [merging, appending])
def test_a_trigger_that_drops_new_rows_is_noticed(server: Postgres, write: Any) -> None:
    server.load(write(), events(2))
    server.run(
        "CREATE FUNCTION drop_it() RETURNS trigger AS $$ BEGIN RETURN NULL; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER drop_it BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION drop_it()",
    )
    with pytest.raises(PostHogIncompleteError, match="2 of the keys, but 3"):
        server.load(write(), events(3))
    assert server.count() == 2


def test_a_unique_index_may_include_columns_that_are_not_of_the_key(server: Postgres) -> None:
    server.load(replacing(), events(1))
    server.run("CREATE UNIQUE INDEX ON events (uuid) INCLUDE (event)")
    server.load(merging(), events(3))
    assert server.count() == 3
    with pytest.raises(PostHogSettingsError, match="unique index"):
        server.load(merging(key=("uuid", "event")), events(3))


def test_names_on_a_connection_of_another_encoding(postgres: Postgres) -> None:
    table = events(1).append_column("größe", pa.array(["ж"]))
    for _ in range(2):
        connection = postgres.connect()
        connection.set_client_encoding("LATIN1")
        with postgres.loader_of(connection, replacing()) as loader:
            loader.open(table.schema)
            loader.write(table)
            loader.commit()
    assert postgres.rows('SELECT "größe" FROM events') == [("ж",)]


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


@pytest.mark.parametrize("table", ["events", "public.events", '"public"."events"'])
def test_making_the_table_waits_for_another_load_that_makes_it(postgres: Postgres, table: str) -> None:
    """However each calls it."""
    failures: list[BaseException] = []

    def load() -> None:
        try:
            postgres.load(replacing(table), events(2))
        except BaseException as error:
            failures.append(error)

    with closing(postgres.connect()) as first:
        first.cursor().execute("""SELECT pg_advisory_xact_lock(hashtext('posthog "events"'))""")
        second = threading.Thread(target=load)
        second.start()
        wait_for(
            lambda: postgres.rows("SELECT 1 FROM pg_locks WHERE NOT granted") != [], what="the second load's waiting"
        )
        first.cursor().execute("CREATE TABLE events (uuid text, event text, created_at timestamptz, properties text)")
        first.commit()
        second.join(30)
    assert failures == []
    assert postgres.count() == 2


def test_a_copy_that_the_server_stops_on_the_way_leaves_the_old_rows(server: Postgres) -> None:
    server.load(replacing(), events(3))
    connection = server.connect()
    with server.loader_of(connection, replacing()) as loader:
        loader.open(SCHEMA)
        loader.write(events(5))
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET LOCAL statement_timeout TO 1")
        long = events(40).set_column(3, "properties", pa.array(["x" * 1_000_000] * 40))
        with pytest.raises(PostHogLoadError, match="Nothing was changed") as refused:
            loader.write(long)
        assert refused.value.sqlstate == "57014"
    assert server.uuids() == events(3).column("uuid").to_pylist()


def test_what_ends_the_task_during_a_copy_is_not_taken_for_an_error_of_the_database(server: Postgres) -> None:
    """A task's timeout and a SIGTERM raise in the middle of whatever is going on."""
    main = threading.get_ident()

    class Ended(BaseException):
        pass

    def end(*_: object) -> None:
        raise Ended

    def load_for_ever() -> None:
        long = events(20).set_column(3, "properties", pa.array(["x" * 1_000_000] * 20))
        with server.loader(replacing()) as loader:
            loader.open(SCHEMA)
            sender.start()
            while True:
                loader.write(long)

    before = signal.signal(signal.SIGUSR1, end)
    sender = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        with pytest.raises(Ended):
            load_for_ever()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert server.count() == 0


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
