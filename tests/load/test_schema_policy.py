"""What becomes of columns, types and values that a table does not have: evolve, freeze, quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.target import Loaded, Target
from tests.load.databases import DAY, START, Database, DuckDB, Postgres, merging, replacing
from tests.load.mariadb import mariadb_database

PRICES = {"price": ("decimal(12,2)", True), "paid": ("boolean", True)}
SCHEMA = pa.schema([("id", pa.string()), ("price", pa.string()), ("paid", pa.string())])


@pytest.fixture(params=["psycopg2", "psycopg", "duckdb", "sqlite", "mariadb"])
def each(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "mariadb":
        with mariadb_database() as database:
            yield database
        return
    if request.param in ("duckdb", "sqlite"):
        yield request.getfixturevalue({"duckdb": "duck", "sqlite": "sqlite"}[request.param])
        return
    yield request.getfixturevalue("postgres").through(request.param)


def target(**options: Any) -> Target:
    return Target("t", **{"write_disposition": "merge", "key": ("id",), **options})


def rows(*values: tuple[str, str | None, str | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, each, strict=True)) for each in values], SCHEMA)


def numbers(count: int, kind: Any = None, **more: Any) -> pa.Table:
    table = pa.table({"id": [str(number) for number in range(count)], "n": pa.array(range(count), kind or pa.int64())})
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    return table


def rejected(database: Database) -> list[tuple[str, Any]]:
    found = database.rows("SELECT reason, data FROM t__rejected ORDER BY data")
    return [(reason, json.loads(data)) for reason, data in found]


# Typed properties.


def test_properties_are_loaded_with_a_type_and_misfits_are_counted(each: Database) -> None:
    given = rows(("1", "12.5", "true"), ("2", '"12,50"', "false"), ("3", "", '"maybe"'), ("4", '"7"', "null"))
    loaded = each.load(target(casts=PRICES, max_rejects=2), given)
    assert (loaded.rows, loaded.misfits) == (4, {"price": 1, "paid": 1})
    found = each.rows("SELECT id, price, paid FROM t ORDER BY id")
    assert [(None if price is None else float(price), paid) for _, price, paid in found] == [
        (12.5, True),
        (None, False),
        (None, None),
        (7.0, None),
    ]
    again = each.load(target(casts=PRICES, max_rejects=2), given)
    assert (again.unchanged, again.misfits) == (4, {"price": 1, "paid": 1})


@pytest.mark.parametrize("most", [None, 0, 1])
def test_more_misfits_than_allowed_load_nothing(each: Database, most: int | None) -> None:
    each.load(target(casts=PRICES), rows(("1", "1", "true")))
    with pytest.raises(PostHogLoadError, match=r"price: 1, paid: 1.*max_rejects is") as refused:
        each.load(target(casts=PRICES, max_rejects=most), rows(("1", '"secret"', '"secret"')))
    assert "secret" not in str(refused.value)
    assert each.count("t", "paid IS NOT NULL") == 1


def test_a_column_that_is_not_there_or_of_no_type_is_refused(duck: DuckDB) -> None:
    for casts in ({"cost": ("decimal(3,2)", False)}, {"price": ("money", False)}):
        with pytest.raises(PostHogSettingsError) as refused:
            duck.load(target(casts=casts), rows(("1", "1", "1")))
        assert refused.value.field == "columns"


# Quarantine.


def test_rows_that_do_not_fit_go_into_quarantine_with_the_reason(each: Database) -> None:
    policy = {"casts": PRICES, "schema_policy": "quarantine", "label": "dag.task", "run": "r"}
    given = rows(("1", "1.5", "true"), ("2", '"12,50"', "true"), ("3", "x", "maybe"))
    for new in (1, 0):
        loaded = each.load(target(**policy), given)
        assert (loaded.rows, loaded.inserted, loaded.rejected, loaded.misfits) == (1, new, 2, {})
        assert rejected(each) == [
            ("price does not fit decimal(12,2)", {"id": "2", "price": '"12,50"', "paid": "true"}),
            ("price does not fit decimal(12,2); paid does not fit boolean", {"id": "3", "price": "x", "paid": "maybe"}),
        ], "a second try does not double them"
    each.load(target(**{**policy, "label": "dag.other"}), given)
    assert each.count("t__rejected") == 4
    each.load(target(**policy), given.slice(0, 1))
    assert each.rows("SELECT DISTINCT task FROM t__rejected") == [("dag.other",)]


def test_a_row_with_a_value_for_a_column_that_is_not_there_goes_into_quarantine(each: Database) -> None:
    each.load(target(), numbers(3))
    loaded = each.load(target(schema_policy="quarantine"), numbers(3, extra=["x", None, None]))
    assert (loaded.rows, loaded.unchanged, loaded.rejected) == (2, 2, 1)
    assert rejected(each) == [("extra is not a column of the table", {"id": "0", "n": 0, "extra": "x"})]
    assert each.columns("t") == ["id", "n"]


@pytest.mark.parametrize(("sql_type", "bad"), [("smallint", "99999"), ("date", "soon"), ("numeric(4,1)", "1234.5")])
def test_texts_of_another_type_are_read_as_the_table_s(postgres: Postgres, sql_type: str, bad: str) -> None:
    good = {"smallint": "7", "date": "2026-11-01", "numeric(4,1)": "123.5"}[sql_type]
    postgres.run(f"CREATE TABLE t (id text PRIMARY KEY, v {sql_type})")
    table = pa.table({"id": ["1", "2"], "v": [good, bad]})
    with pytest.raises(PostHogSettingsError):
        postgres.load(target(), table)
    assert postgres.load(target(schema_policy="quarantine"), table).rejected == 1
    assert str(postgres.rows("SELECT v FROM t")[0][0]) == good


def test_numbers_texts_and_uuids_that_are_too_much_for_a_column_go_into_quarantine(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE t (id uuid PRIMARY KEY, n integer, word varchar(3), yes boolean)")
    ids = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(4)]
    table = pa.table({"id": [*ids, "jane"], "n": [1, 2**40, 1, 1, 1], "word": ["abc", "a", "abcd", "a", "a"],
                      "yes": pa.array([1, 0, 1, 2, 1], pa.uint8())})  # fmt: skip
    loaded = postgres.load(target(schema_policy="quarantine"), table)
    assert (loaded.rows, loaded.rejected) == (1, 4)
    assert [reason for reason, _ in rejected(postgres)] == [
        "n does not fit integer",
        "word does not fit character varying(3)",
        "yes does not fit boolean",
        "id does not fit uuid",
    ]


def test_quarantine_has_a_limit_if_one_is_given(each: Database) -> None:
    each.load(target(), numbers(3))
    for most in (0, 1):
        with pytest.raises(PostHogLoadError, match=f"max_rejects is {most}"):
            each.load(target(schema_policy="quarantine", max_rejects=most), numbers(3, extra=["x", "y", None]))
    assert (
        each.load(target(schema_policy="quarantine", max_rejects=2), numbers(3, extra=["x", "y", None])).rejected == 2
    )


# Freeze and evolve.


def test_a_frozen_table_gets_no_column(each: Database) -> None:
    each.load(target(schema_policy="freeze"), numbers(2))
    with pytest.raises(PostHogSettingsError, match="lacks 'extra'"):
        each.load(target(schema_policy="freeze"), numbers(2, extra=["x", "y"]))
    assert each.columns("t") == ["id", "n"]
    each.load(target(schema_policy="freeze", deleted="mark"), numbers(2))
    assert each.columns("t") == ["id", "n", "deleted_at"], "what the task itself asks for"


@pytest.mark.parametrize("kind", ["psycopg2", "duckdb"])
def test_a_type_becomes_wider_without_a_change_of_values(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue("duck" if kind == "duckdb" else "postgres")
    key = "" if kind == "duckdb" else " PRIMARY KEY"
    database.run(f"CREATE TABLE t (id text{key}, n bigint, d decimal(6,2))",
                 "INSERT INTO t VALUES ('0', 9007199254740993, 1234.56)")  # fmt: skip
    decimals = pa.array([Decimal("0.1234")], pa.decimal128(8, 4))
    table = pa.table({"id": ["1"], "n": decimals, "d": decimals})
    with pytest.raises(PostHogSettingsError, match="but the table has it as"):
        database.load(target(), table)
    database.load(target(schema_policy="evolve"), table)
    found = [tuple(map(Decimal, map(str, each))) for each in database.rows("SELECT n, d FROM t ORDER BY id")]
    assert found == [
        (Decimal(9007199254740993), Decimal("1234.56")),
        (Decimal("0.1234"), Decimal("0.1234")),
    ]


def test_a_text_in_a_column_of_numbers_widens_nothing(each: Database) -> None:
    each.load(target(), numbers(2))
    with pytest.raises(PostHogSettingsError, match="'n' as string"):
        each.load(target(schema_policy="evolve"), pa.table({"id": ["1"], "n": ["x"]}))


@pytest.mark.parametrize("options", [{"schema_policy": "strict"}, {"max_rejects": -1}, {"max_rejects": True},
                                     {"max_rejects": "5"}])  # fmt: skip
def test_what_is_no_policy_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        target(**options)
    assert refused.value.field == next(iter(options))


# What quarantine leaves alone.


def timed(*values: tuple[str, str, int]) -> pa.Table:
    rows = [{"id": number, "price": price, "at": START + timedelta(hours=hour)} for number, price, hour in values]
    return pa.Table.from_pylist(rows, pa.schema([*SCHEMA.remove(2), pa.field("at", pa.timestamp("us", "UTC"))]))


@pytest.mark.parametrize("options", [{"deleted": "delete"}, {"deleted": "mark"}, {"write_disposition": "scd2"}])
def test_a_row_in_quarantine_is_not_gone(each: Database, options: dict[str, Any]) -> None:
    given = {"casts": PRICES, "schema_policy": "quarantine", "label": "dag.task", "deleted": "mark", **options}
    each.load(target(**given), rows(("1", "1", None), ("2", "2", None), ("3", "3", None)))
    loaded = each.load(target(**given), rows(("1", "1", None), ("2", "bad", None)))
    assert (loaded.unchanged, loaded.rejected, loaded.gone) == (1, 1, 1)
    end = {"scd2": "valid_to"}.get(given.get("write_disposition", ""), "deleted_at")
    where = "1 = 1" if given["deleted"] == "delete" else f"{end} IS NULL"
    assert each.rows(f"SELECT id FROM t WHERE {where} ORDER BY id") == [("1",), ("2",)]


def test_nobody_knows_what_is_gone_where_rows_are_in_quarantine_and_nothing_is_deleted(each: Database) -> None:
    given = {"casts": PRICES, "schema_policy": "quarantine", "whole": True}
    each.load(target(**given), rows(("1", "1", None), ("2", "2", None)))
    assert each.load(target(**given), rows(("1", "1", None), ("2", "bad", None))).gone is None


def test_rows_that_all_go_into_quarantine_leave_an_empty_interval(each: Database) -> None:
    policy = {"casts": {"price": PRICES["price"]}, "schema_policy": "quarantine"}
    loaded = each.load(replacing("t", by="at", **policy), timed(("1", "bad", 1)), timed(("2", "2", 2)))
    assert (loaded.rows, loaded.rejected) == (1, 1)
    for given in (("1", "1", 1), ("1", "bad", 1)):  # it is not PostHog that shows fewer rows
        loaded = each.load(replacing("u", by="at", **policy), timed(given))
    assert (loaded.rows, loaded.deleted, loaded.rejected) == (0, 1, 1)


def test_loads_side_by_side_have_a_row_in_quarantine_once(postgres: Postgres) -> None:
    given = {"casts": PRICES, "schema_policy": "quarantine", "label": "dag.task"}
    first, second = (postgres.loader(target(**given)) for _ in range(2))
    for loader in (first, second):
        loader.open(SCHEMA)
        loader.write(rows(("1", "bad", None), ("2", "2", None)))
    for loader in (second, first):
        with loader:
            assert loader.commit().rejected == 1
    assert (postgres.count("t__rejected"), postgres.count("t")) == (1, 1)


@pytest.mark.parametrize("write", [replacing, target])
def test_a_row_that_overlapping_loads_read_is_in_quarantine_once(each: Database, write: Any) -> None:
    policy = {"casts": {"price": PRICES["price"]}, "schema_policy": "quarantine", "label": "dag.task", "by": "at"}
    for first, given in ((0, [("1", "bad", 1), ("3", "bad", 30)]), (1, [("3", "bad", 30), ("4", "bad", 50)])):
        days = {"start": START + first * DAY, "end": START + (first + 2) * DAY}
        names = {"table": "t"} if write is replacing else {}
        each.load(write(**names, **policy, **days), timed(*given))
    assert sorted(data["id"] for _, data in rejected(each)) == ["1", "3", "4"]


def test_a_quarantine_of_other_columns_is_refused_before_anything_is_written(each: Database) -> None:
    each.run("CREATE TABLE t__rejected (reason VARCHAR(50))")
    with pytest.raises(PostHogSettingsError, match="t__rejected, but that table has other columns") as refused:
        each.load(target(schema_policy="quarantine"), numbers(1))
    assert refused.value.field == "schema_policy"
    assert each.count("t__rejected") == 0


def test_names_with_a_sign_for_values_have_a_quarantine_too(postgres: Postgres) -> None:
    given = {"key": ("id",), "casts": PRICES, "schema_policy": "quarantine"}
    for _ in range(2):
        assert postgres.load(merging('"100%s %"', **given), rows(("1", "bad", None))).rejected == 1
    assert postgres.count('"100%s %__rejected"') == 1
    with pytest.raises(PostHogSettingsError, match="__rejected") as refused:
        postgres.load(merging("t" * 58, **given), rows(("1", "bad", None)))
    assert refused.value.field == "table"


@pytest.mark.parametrize("kind", ["psycopg2", "duckdb"])
def test_a_number_that_is_too_big_for_a_decimal_goes_into_quarantine(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue("duck" if kind == "duckdb" else "postgres")
    database.run("CREATE TABLE t (id text PRIMARY KEY, n decimal(6,2))")
    for fit, others in ((9999, [10_000, -(10**12)]), (1.239, [9999.999, 1e300, float("nan"), float("-inf")])):
        given = pa.table({"id": [str(number) for number in range(len(others) + 1)], "n": [fit, *others]})
        loaded = database.load(target(schema_policy="quarantine"), given)
        assert (loaded.rows, loaded.rejected) == (1, len(others))
    assert str(database.rows("SELECT n FROM t")[0][0]) == "1.24", "floats are rounded, as they are without a policy"


@pytest.mark.parametrize("write", ["merge", "replace"])
@pytest.mark.parametrize("kind", ["psycopg2", "psycopg", "duckdb"])
def test_a_column_grows_with_its_values(request: pytest.FixtureRequest, kind: str, write: Any) -> None:
    database: Database = (
        request.getfixturevalue("duck") if kind == "duckdb" else request.getfixturevalue("postgres").through(kind)
    )
    database.run("CREATE TABLE t (id varchar(3) PRIMARY KEY, i smallint, n integer, d decimal(6,2), s varchar(3))")
    small = pa.table({"id": ["1"], "i": [1], "n": [1], "d": [1], "s": ["abc"]})
    big = pa.table(
        {"id": ["4", "5000"], "i": [2**15, -(2**15)], "n": [7, -(2**40)], "d": [10**5, 1], "s": ["é", "abcd"]}
    )
    with pytest.raises(PostHogLoadError) as refused:
        database.load(target(write_disposition=write), big)
    assert not any(number in str(refused.value) for number in ("1099511627776", "32768", "100000"))
    before = database.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't'")
    database.load(target(write_disposition=write, schema_policy="evolve"), small)
    there = database.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't'")
    assert there == before, "what fits changes no type"
    database.load(
        target(write_disposition=write, schema_policy="evolve"), small.slice(0, 0), big.slice(0, 1), big.slice(1)
    )
    assert database.rows("SELECT i, n, CAST(d AS bigint), s FROM t WHERE id IN ('4', '5000') ORDER BY id") == [
        (2**15, 7, 10**5, "é"),
        (-(2**15), -(2**40), 1, "abcd"),
    ]


@pytest.mark.parametrize("kind", ["psycopg2", "duckdb"])
def test_a_column_grows_with_an_interval_and_other_intervals_stay(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue("duck" if kind == "duckdb" else "postgres")
    database.run("CREATE TABLE t (seen timestamptz, n smallint)")

    def load(day: int, *numbers: int) -> Loaded:
        start = START + day * DAY
        given = pa.table(
            {"seen": pa.array([start] * len(numbers), pa.timestamp("us", "UTC")), "n": pa.array(numbers, pa.int64())}
        )
        interval = {"by": "seen", "start": start, "end": start + DAY}
        return database.load(
            target(write_disposition="replace_interval", key=(), schema_policy="evolve", **interval), given
        )

    load(0, 1, 2)
    load(1, 3)
    done = load(0, 2**15, 4, 5)
    assert (done.rows, done.deleted) == (3, 2)
    assert sorted(row[0] for row in database.rows("SELECT n FROM t")) == [3, 4, 5, 2**15]
    with pytest.raises(PostHogIncompleteError, match="3 rows are there"):
        load(0)
    assert database.rows("SELECT count(*) FROM t")[0][0] == 4
    made = "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')"
    assert [row[0] for row in database.rows(made)] == ["t"], "no stage stays"
