"""No two keys of PostHog's become one row, whatever a column makes of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogLoadError
from airflow_provider_posthog.load.keys import alike
from tests.load.databases import Database, DuckDB, Postgres, SQLite, appending, merging


def rows(*keys: str) -> pa.Table:
    return pa.table({"k": list(keys), "n": list(range(len(keys)))})


PAIRS = [("Acme", "acme"), ("acme", "acme "), ("é", "e\u0301"), ("a\ufffdb", "a\ufffd\ufffdb"), ("straße", "strasse")]


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize("pair", PAIRS)
def test_keys_that_look_alike_are_two_rows(database: Database, write: Any, pair: tuple[str, str]) -> None:
    for inserted in (2, 0):
        loaded = database.load(write("t", ("k",)), rows(*pair))
        assert loaded.rows == 2
        assert loaded.inserted in (inserted, None)
    assert sorted(row[0] for row in database.rows("SELECT k FROM t")) == sorted(pair)


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize("keys", [("a\0b", "a\ufffdb"), ("a\0b",), ("\0",)])
def test_a_key_with_a_character_that_postgres_does_not_keep_is_refused(
    postgres: Postgres, write: Any, keys: tuple[str, ...]
) -> None:
    """The key that it would become may be in the table, too."""
    postgres.load(write("t", ("k",)), rows("a\ufffdb"))
    with pytest.raises(PostHogIncompleteError, match="the key 'k' of 1 rows holds the character 0"):
        postgres.load(write("t", ("k",)), rows(*keys))
    assert postgres.rows("SELECT k, n FROM t") == [("a\ufffdb", 0)]


def test_a_character_0_outside_of_the_key_stops_nothing(postgres: Postgres) -> None:
    postgres.load(merging("t", ("k",)), rows("a").append_column("text", pa.array(["x\0y"])))
    assert postgres.rows("SELECT text FROM t") == [("x\ufffdy",)]


POSTGRES = {
    "citext": ("citext", [("Acme", "acme")]),
    "char": ("char(20)", [("acme", "acme ")]),
    "a short varchar": ("varchar(4)", [("acme", "acme ")]),
}


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize("case", POSTGRES)
def test_keys_that_postgres_takes_for_one_are_an_error(postgres: Postgres, write: Any, case: str) -> None:
    """In one load, and when one of them is there already."""
    sql_type, pairs = POSTGRES[case]
    if case == "citext":
        _make_citext(postgres)
    postgres.run(f"CREATE TABLE t (k {sql_type} PRIMARY KEY, n bigint)")
    for one, other in pairs:
        with pytest.raises(PostHogError):
            postgres.load(write("t", ("k",)), rows(one, other))
        assert postgres.count("t") == 0
        postgres.load(write("t", ("k",)), rows(one))
        with pytest.raises(PostHogError):
            postgres.load(write("t", ("k",)), pa.table({"k": [other], "n": [5]}))
        assert postgres.rows("SELECT n FROM t") == [(0,)]
        postgres.load(write("t", ("k",)), rows(one))
        postgres.run("DELETE FROM t")


def _make_citext(postgres: Postgres) -> None:
    """Make the type as its extension does, which the wheel has not: a text that compares without case."""
    operators = {"<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">": "gt"}
    postgres.run(
        "CREATE TYPE citext",
        "CREATE FUNCTION citextin(cstring) RETURNS citext AS 'textin' LANGUAGE internal IMMUTABLE STRICT",
        "CREATE FUNCTION citextout(citext) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT",
        "CREATE TYPE citext (INPUT = citextin, OUTPUT = citextout, INTERNALLENGTH = VARIABLE, STORAGE = extended, "
        "CATEGORY = 'S', COLLATABLE = true)",
        "CREATE CAST (citext AS text) WITHOUT FUNCTION AS IMPLICIT",
        "CREATE CAST (text AS citext) WITHOUT FUNCTION AS ASSIGNMENT",
        "CREATE FUNCTION citext_cmp(citext, citext) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS "
        "'SELECT (lower($1::text) > lower($2::text))::integer - (lower($1::text) < lower($2::text))::integer'",
        *(
            f"CREATE FUNCTION citext_{name}(citext, citext) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS "
            f"'SELECT lower($1::text) {sign} lower($2::text)'"
            for sign, name in operators.items()
        ),
        *(
            f"CREATE OPERATOR {sign} (LEFTARG = citext, RIGHTARG = citext, FUNCTION = citext_{name})"
            for sign, name in operators.items()
        ),
        "CREATE OPERATOR CLASS citext_ops DEFAULT FOR TYPE citext USING btree AS "
        + ", ".join(f"OPERATOR {number} {sign}" for number, sign in enumerate(operators, 1))
        + ", FUNCTION 1 citext_cmp(citext, citext)",
    )


@pytest.mark.parametrize("write", [merging, appending])
def test_a_key_of_a_collation_of_the_users_own_is_found_again(postgres: Postgres, write: Any) -> None:
    postgres.run('CREATE TABLE t (k text COLLATE "C" PRIMARY KEY, n bigint)')
    for _ in range(2):
        assert postgres.load(write("t", ("k",)), rows("b", "a", "B")).rows == 3


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize("index", ["", "PRIMARY KEY"])
@pytest.mark.parametrize("collation", ["NOCASE", "NOACCENT", "NFC"])
def test_duckdb_tells_keys_apart_whatever_their_collation_is(
    duck: DuckDB, write: Any, index: str, collation: str
) -> None:
    pair = {"NOCASE": ("Acme", "acme"), "NOACCENT": ("é", "e"), "NFC": ("é", "e\u0301")}[collation]
    duck.run(f"CREATE TABLE t (k VARCHAR COLLATE {collation} {index}, n BIGINT)")
    duck.load(write("t", ("k",)), rows(pair[0]))
    for inserted in (1, 0):
        loaded = duck.load(write("t", ("k",)), pa.table({"k": [pair[1]], "n": [5]}))
        assert (loaded.rows, loaded.inserted) == (1, inserted)
    assert sorted(duck.rows("SELECT k, n FROM t")) == sorted([(pair[0], 0), (pair[1], 5)])


@pytest.mark.parametrize("write", [merging, appending])
def test_duckdb_tells_keys_apart_whatever_its_default_collation_is(duck: DuckDB, write: Any) -> None:
    for keys in (["Acme"], ["acme"], ["Acme", "acme"]):
        connection = duck.connect()
        connection.execute("SET default_collation = 'nocase'")
        with duck.loader_of(connection, write("t", ("k",))) as loader:
            loader.open(rows(*keys).schema)
            loader.write(rows(*keys))
            loader.commit()
    assert duck.count("t") == 2


@pytest.mark.parametrize("write", [merging, appending])
@pytest.mark.parametrize("index", ["", "PRIMARY KEY"])
@pytest.mark.parametrize(("collation", "pair"), [("NOCASE", ("Acme", "acme")), ("RTRIM", ("acme", "acme "))])
def test_keys_that_sqlite_takes_for_one_are_told_by_their_column(
    sqlite: SQLite, write: Any, index: str, collation: str, pair: tuple[str, str]
) -> None:
    sqlite.run(f"CREATE TABLE t (k text COLLATE {collation} {index}, n integer)")
    sqlite.load(write("t", ("k",)), rows(pair[0]))
    with pytest.raises(PostHogLoadError, match=r"that differ in k, .*COLLATE BINARY"):
        sqlite.load(write("t", ("k",)), pa.table({"k": [pair[1]], "n": [5]}))
    assert sqlite.rows("SELECT k, n FROM t") == [(pair[0], 0)]
    sqlite.run("DELETE FROM t")
    if index:
        with pytest.raises(PostHogLoadError, match="that differ in k"):
            sqlite.load(write("t", ("k",)), rows(*pair))
        assert sqlite.count("t") == 0
    else:
        assert sqlite.load(write("t", ("k",)), rows(*pair)).rows == 2


@pytest.mark.parametrize("write", [merging, appending])
def test_keys_of_floats_are_all_kept(database: Database, write: Any) -> None:
    floats = [0.1, 0.1 + 2**-53, 1e300, -1e-300, float(2**53), float(2**53 + 2)]
    table = pa.table({"k": floats, "n": list(range(len(floats)))})
    for _ in range(2):
        assert database.load(write("t", ("k",)), table).rows == len(set(floats))
    assert sorted(row[0] for row in database.rows("SELECT k FROM t")) == sorted(set(floats))


@given(st.lists(st.text(max_size=4), max_size=6, unique=True))
def test_what_is_alike_is_two_keys(texts: list[str]) -> None:
    found = alike([(text,) for text in texts])
    assert found is None or (found[0] != found[1] and {found[0][0], found[1][0]} <= set(texts))
    assert alike([(text.upper(),) for text in texts] + [(f"{text.upper()} ",) for text in texts[:1]]) or not texts
