"""Erasing rows of a real MariaDB: whatever its collations, engines and logs are."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor, SSCursor

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load import mysql
from airflow_provider_posthog.load.mysql_removal import MySQLRemoval
from airflow_provider_posthog.load.removal import Criterion
from tests.load.mariadb import MariaDB, mariadb_database

UUID = "3dc16883-e41d-573c-94ce-5d5370469f17"


@pytest.fixture
def maria() -> Iterator[MariaDB]:
    with mariadb_database() as database:
        yield database


def put(maria: MariaDB, values: list[Any], table: str = "events") -> None:
    with closing(maria.connect()) as connection:
        connection.cursor().executemany(f"INSERT INTO {table} (who) VALUES (%s)", [(value,) for value in values])
        connection.commit()


def remove(maria: MariaDB, values: list[str], *, any_case: bool = False, table: str = "events") -> Any:
    with closing(maria.connect()) as connection:
        removal = MySQLRemoval(connection, table)
        removed = removal.run([Criterion("who", iter(values), any_case=any_case)])
        connection.commit()
        return removed["who"]


def left(maria: MariaDB) -> list[str]:
    return [row[0] for row in maria.rows("SELECT who FROM events ORDER BY n")]


@pytest.mark.parametrize(
    "kind",
    [
        *(
            f"VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_{name}"
            for name in ("general_ci", "unicode_ci", "unicode_520_ci", "bin", "nopad_bin")
        ),
        "VARCHAR(50) CHARACTER SET latin1",
        "TEXT CHARACTER SET utf16 COLLATE utf16_general_ci",
    ],
)
def test_a_collation_that_takes_two_persons_for_one_erases_no_stranger(maria: MariaDB, kind: str) -> None:
    maria.run(f"CREATE TABLE events (n SERIAL, who {kind})")
    texts = ["Ann", "ann", "Ann ", " Ann", "Änn", "A\u00f1n", "Anna", "", " "]
    put(maria, texts)
    assert remove(maria, ["Ann", "Änn", ""]) == 3
    assert left(maria) == ["ann", "Ann ", " Ann", "A\u00f1n", "Anna", " "]
    assert remove(maria, [" ANN", "ANN"], any_case=True) == 3
    assert left(maria) == ["A\u00f1n", "Anna", " "]


def test_the_capital_of_every_letter_is_the_same_and_no_other_letter_is(maria: MariaDB) -> None:
    letters = [chr(number) for number in range(0x10450)]
    # Those of a Unicode that every server knows.
    known = unicodedata.ucd_3_2_0.category
    capitals = [letter for letter in letters if known(letter) in ("Lu", "Lt") and known(letter.lower()[0]) == "Ll"]
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, [f"{letter}@example.org" for letter in [*capitals, "\u0131", "\u00e9"]])
    values = [f"{letter.lower()}@example.org" for letter in capitals if letter != "\u00c9"]
    assert remove(maria, values, any_case=True) == len(capitals) - 1
    assert left(maria) == ["\u00c9@example.org", "\u0131@example.org", "\u00e9@example.org"]


def test_letters_that_got_capitals_lately_are_folded_where_the_server_knows_them(maria: MariaDB) -> None:
    collations = "SELECT collation_name FROM information_schema.collations WHERE collation_name = 'uca1400_as_cs'"
    knows = len(maria.rows(collations))
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["\u13a0@example.org", "\U0001e900@example.org"])
    values = ["\u13a0@example.org", "\U0001e900@example.org"]
    assert remove(maria, values, any_case=True) == 2 * knows


def test_rows_in_quarantine_are_compared_as_they_were_read(maria: MariaDB) -> None:
    texts = ["null", "zero \0", "back\\slash \\u0041", "quo\"te's", "💥", "7", "stranger", None, 7.5]
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)", "CREATE TABLE events__rejected (data LONGTEXT)")
    with closing(maria.connect()) as connection:
        rows = [(json.dumps({"n": 1, "who": text}, ensure_ascii=False),) for text in texts]
        connection.cursor().executemany("INSERT INTO events__rejected VALUES (%s)", rows)
        connection.commit()
    remove(maria, [str(text) for text in texts[:6]])
    left_over = [json.loads(row[0])["who"] for row in maria.rows("SELECT data FROM events__rejected")]
    assert left_over == ["stranger", None, 7.5]


def test_a_letter_that_becomes_two_or_ends_a_word_is_folded_as_everywhere(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["i@example.org", "\u0130@example.org", "ΟΔΟΣ@example.org", "οδος@example.org", "οδο@example.org"])
    assert remove(maria, ["\u0130@example.org", "Οδος@example.org"], any_case=True) == 3
    assert left(maria) == ["i@example.org", "οδο@example.org"]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("CHAR(40)", UUID), ("CHAR(32)", UUID.replace("-", "").upper()), ("UUID", UUID), (f"ENUM('{UUID}')", UUID)],
)
@pytest.mark.parametrize("mode", ["PAD_CHAR_TO_FULL_LENGTH", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", ""])
def test_uuids_in_columns_of_other_types_whatever_the_server_s_mode(
    maria: MariaDB, kind: str, kept: str, mode: str
) -> None:
    maria.run(f"CREATE TABLE events (n SERIAL, who {kind})")
    put(maria, [kept, None])
    maria.options = {"sql_mode": mode}
    assert remove(maria, [UUID, UUID.replace("-", "")], any_case=True) == 1
    assert left(maria) == [None]


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_a_table_without_transactions_is_refused_and_nothing_erased(maria: MariaDB, engine: str) -> None:
    maria.run(f"CREATE TABLE events (n SERIAL, who VARCHAR(9)) ENGINE = {engine}")
    put(maria, ["Ann"])
    with pytest.raises(PostHogSettingsError, match=rf"engine \({engine}\) has no transactions: half an erasure would"):
        remove(maria, ["Ann"])
    maria.run("ALTER TABLE events ENGINE = InnoDB", "CREATE VIEW them AS SELECT * FROM events")
    with pytest.raises(PostHogSettingsError, match="a view: half an erasure might stay"):
        remove(maria, ["Ann"], table="them")
    assert left(maria) == ["Ann"]
    assert remove(maria, ["Ann"]) == 1


@pytest.mark.parametrize(
    ("engine", "data", "told"),
    [
        ("MyISAM", '{"who": "Ann"}', "events__rejected, whose engine"),
        ("InnoDB", '{"who": "Ann", "n": NaN}', "1 rows of events__rejected are no JSON"),
    ],
)
def test_a_quarantine_that_cannot_be_undone_or_read_keeps_all_rows(
    maria: MariaDB, engine: str, data: str, told: str
) -> None:
    maria.run(
        "CREATE TABLE events (n SERIAL, who TEXT)",
        f"CREATE TABLE events__rejected (data LONGTEXT) ENGINE = {engine}",
        f"INSERT INTO events__rejected VALUES ('{data}')",
    )
    put(maria, ["Ann"])
    with pytest.raises((PostHogLoadError, PostHogSettingsError), match=told) as refused:
        remove(maria, ["Ann"])
    assert "Ann" not in str(refused.value)
    assert (left(maria), maria.count("events__rejected")) == (["Ann"], 1)


def test_tables_of_another_case_are_not_beside_it(maria: MariaDB) -> None:
    maria.run(
        "CREATE TABLE events (n SERIAL, who TEXT)",
        'CREATE TABLE EVENTS__REJECTED (data TEXT) AS SELECT \'{"who": "Ann"}\' AS data',
        "CREATE TABLE Events__loading_posthog_20261129_ab12 (part INTEGER)",
    )
    put(maria, ["Ann"])
    assert remove(maria, ["Ann"]) == 1
    assert maria.count("EVENTS__REJECTED") == 1


def test_rows_that_came_after_the_transaction_began_are_counted_and_go(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    with closing(maria.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM events")
        put(maria, ["Ann", "Bob"])
        assert MySQLRemoval(connection, "events").run([Criterion("who", iter(["Ann"]))]) == {"who": 1}
        connection.commit()
    assert left(maria) == ["Bob"]


def test_a_load_of_the_table_is_waited_for(maria: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows cannot be seen before it ends."""
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["Ann"])
    monkeypatch.setattr(mysql, "_PATIENCE", 0)
    with closing(maria.connect()) as load:
        mysql.TableOfMySQL(lambda sql, values: _ask(load, sql, values), ["events"], "events").wait_for_others()
        with pytest.raises(PostHogLoadError, match="Another load of events has not ended"):
            remove(maria, ["Ann"])
    assert left(maria) == ["Ann"]


def _ask(connection: Any, sql: str, values: Any) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(sql, values)
    return list(cursor.fetchall())


def test_no_statement_names_anybody_and_each_is_short(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    names = [f"secret-{number}-{'💥' * 400}" for number in range(2_500)]
    put(maria, [*names[:3], names[-1], "somebody"])
    switch = "SET GLOBAL log_output = '{}', GLOBAL general_log = {}, GLOBAL max_allowed_packet = {}"
    maria.run("TRUNCATE mysql.general_log", switch.format("TABLE", "ON", 128 * 1024))
    try:
        assert remove(maria, [*names, *names]) == 4
    finally:
        maria.run(switch.format("FILE", "OFF", 16 * 1024 * 1024))
    logged = [row[0] for row in maria.rows("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log")]
    assert len([text for text in logged if text.startswith("INSERT")]) == 5
    assert not [text for text in logged if "secret" in text]
    assert (left(maria), maria.rows("SHOW TABLES")) == (["somebody"], [("events",)])


def test_an_error_of_a_trigger_s_own_is_not_shown(maria: MariaDB) -> None:
    maria.run(
        "CREATE TABLE events (n SERIAL, who TEXT)",
        "CREATE TRIGGER keep BEFORE DELETE ON events FOR EACH ROW BEGIN DECLARE said TEXT DEFAULT "
        "CONCAT('we keep ', OLD.who); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said; END",
    )
    put(maria, ["secret"])
    with pytest.raises(PostHogLoadError, match="a trigger or function raised an exception of its own") as refused:
        remove(maria, ["secret"])
    assert "secret" not in str(refused.value)
    assert left(maria) == ["secret"]


def test_a_reference_to_a_row_changes_nothing_and_shows_nothing(maria: MariaDB) -> None:
    maria.run(
        "CREATE TABLE events (n SERIAL, who VARCHAR(20) UNIQUE)",
        "CREATE TABLE orders (who VARCHAR(20), FOREIGN KEY (who) REFERENCES events (who))",
    )
    put(maria, ["secret-1", "secret-2"])
    put(maria, ["secret-2"], "orders")
    with pytest.raises(PostHogLoadError, match="foreign key") as refused:
        remove(maria, ["secret-1", "secret-2"])
    assert "secret" not in str(refused.value)
    assert left(maria) == ["secret-1", "secret-2"]


@pytest.mark.parametrize("cursor", [DictCursor, SSCursor])
def test_a_connection_s_own_kind_of_cursor(maria: MariaDB, cursor: Any) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["Ann", "Bob"])
    with closing(maria.connect()) as connection:
        connection.cursorclass = cursor
        assert MySQLRemoval(connection, "events").run([Criterion("who", iter(["Ann"]))]) == {"who": 1}


def test_a_user_of_few_rights_whose_connection_has_no_database(maria: MariaDB) -> None:
    maria.run(
        "CREATE TABLE events (n SERIAL, who TEXT)",
        "CREATE TABLE js (who JSON)",
        "CREATE USER reader",
        "GRANT SELECT, CREATE TEMPORARY TABLES ON warehouse.* TO reader",
        "GRANT DELETE ON warehouse.events TO reader",
        "GRANT DELETE ON warehouse.js TO reader",
    )
    put(maria, ["Ann", "Bob"])
    with closing(MariaDB("reader").connect()) as at_home:
        socket = at_home.unix_socket
    with closing(pymysql.connect(unix_socket=socket, user="reader", charset="utf8mb4", ssl_disabled=True)) as abroad:
        assert MySQLRemoval(abroad, "warehouse.events").run([Criterion("who", iter(["Ann"]))]) == {"who": 1}
        abroad.commit()
        with pytest.raises(PostHogLoadError, match="has the type json"):
            MySQLRemoval(abroad, "warehouse.js").run([Criterion("who", iter(["Ann"]))])
    assert left(maria) == ["Bob"]


def test_a_user_who_does_not_see_a_quarantine_is_refused(maria: MariaDB) -> None:
    """The catalogue has only what a user may use, so that nobody could tell that rows stay there."""
    maria.run(
        "CREATE TABLE events (n SERIAL, who TEXT)",
        "CREATE TABLE events__rejected (data TEXT)",
        "CREATE USER reader",
        "GRANT SELECT, DELETE ON warehouse.events TO reader",
        "GRANT CREATE TEMPORARY TABLES ON warehouse.* TO reader",
    )
    put(maria, ["Ann"])
    with pytest.raises(PostHogLoadError, match=r"may not SELECT from all tables beside events, .* GRANT SELECT ON"):
        remove(MariaDB("reader"), ["Ann"])
    maria.run("GRANT SELECT ON warehouse.* TO reader")
    with pytest.raises(PostHogLoadError, match=r"erasing rows of events__rejected: .* denied"):
        remove(MariaDB("reader"), ["Ann"])
    assert left(maria) == ["Ann"]


def test_a_database_that_is_not_there_is_named(maria: MariaDB) -> None:
    with pytest.raises(PostHogLoadError, match=r"reading column who of nowhere.events"):
        remove(maria, ["Ann"], table="nowhere.events")
    with pytest.raises(PostHogSettingsError, match="is not the name of a table"):
        remove(maria, ["Ann"], table="def.warehouse.events")


def test_a_table_that_keeps_its_history_is_refused(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT) WITH SYSTEM VERSIONING")
    put(maria, ["Ann"])
    with pytest.raises(PostHogSettingsError, match=r"history \(SYSTEM VERSIONING\)"):
        remove(maria, ["Ann"])
    maria.run("ALTER TABLE events DROP SYSTEM VERSIONING")
    assert remove(maria, ["Ann"]) == 1


def test_a_connection_that_commits_by_itself_is_refused(maria: MariaDB) -> None:
    maria.options = {"autocommit": True}
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["Ann"])
    with pytest.raises(PostHogSettingsError, match="stays in autocommit"):
        remove(maria, ["Ann"])
    assert left(maria) == ["Ann"]


class _Weak:
    """A server that hashes by other rules."""

    Error = pymysql.Error

    def __init__(self, connection: Any) -> None:
        self.real = connection
        self.made = connection.cursor()

    def cursor(self) -> Any:
        return self

    def execute(self, statement: str, *values: Any) -> None:
        self.made.execute(statement.replace(", 256)", ", 512)"), *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)

    def close(self) -> None:
        pass


def test_a_server_that_hashes_otherwise_is_refused_as_it_would_find_nobody(maria: MariaDB) -> None:
    maria.run("CREATE TABLE events (n SERIAL, who TEXT)")
    put(maria, ["Ann"])
    with closing(maria.connect()) as connection, pytest.raises(PostHogLoadError, match="SHA2 are not those of MySQL"):
        MySQLRemoval(_Weak(connection), "events").run([Criterion("who", iter(["Ann"]))])
    assert left(maria) == ["Ann"]
