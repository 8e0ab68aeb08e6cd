"""Reading HogQL: its signs, its statements, and what limits the rows of each SELECT.

The tables say what PostHog's own parser (the newest of 2026) makes of the same statements.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.hogql import Arm, arms, limits_of, one_statement, statements, tokens
from airflow_provider_posthog.exceptions import PostHogSettingsError

NONE = Arm()
UNREADABLE = Arm(None, written=True)
STRETCHES = Arm(None, written=True, stretches=True)


def of(*limits: int) -> list[Arm]:
    return [Arm(limit, written=True) for limit in limits]


# One SELECT.


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("SELECT 1", None, None),
        ("", None, None),
        ("LIMIT", None, None),
        ("SELECT event FROM events LIMIT 10", None, 10),
        ("select event from events limit 10", None, 10),
        ("SELECT event FROM events\nLIMIT\n\t10\n", None, 10),
        ("SELECT event FROM events LIMIT\u00a010\u2003", None, 10),
        ("SELECT event FROM events LIMIT 10;", None, 10),
        ("SELECT event FROM events LIMIT 10 OFFSET 5", None, 10),
        ("SELECT event FROM events OFFSET 5", None, None),
        ("SELECT event FROM events LIMIT 3, 5", None, 3),
        ("SELECT event FROM events LIMIT 0, 300000", None, 0),
        ("SELECT event FROM events LIMIT 10 -- at the end", None, 10),
        ("SELECT event FROM events LIMIT /* how many */ 10", None, 10),
        ("(SELECT event FROM events LIMIT 300000)", None, 300_000),
        ("((SELECT event FROM events LIMIT 5))", None, 5),
        ("(SELECT event FROM events) LIMIT 5", None, 5),
        ("(SELECT event FROM events LIMIT 3) LIMIT 5", None, 5),
        # comments
        ("SELECT event FROM events -- LIMIT 10", None, None),
        ("SELECT event FROM events -- LIMIT 10\nLIMIT 5", None, 5),
        ("SELECT event FROM events -- LIMIT 10\rLIMIT 5", None, 5),
        ("SELECT event FROM events // LIMIT 1000", None, None),
        ("SELECT event FROM events // don't LIMIT 10\nLIMIT 5", None, 5),
        ("SELECT event FROM events # LIMIT 5", None, None),
        ("SELECT event FROM events # it's\nLIMIT 5", None, 5),
        ("SELECT event /* LIMIT 10 */ FROM events", None, None),
        ("SELECT event FROM events LIMIT 5 /* LIMIT\n10 */", None, 5),
        ("/* a /* b */ SELECT 1 LIMIT 3", None, 3),
        ("SELECT '--', '//', '#', '/*' FROM events LIMIT 5", None, 5),
        # quotes
        ("SELECT event FROM events WHERE event = 'LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = 'it''s LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = 'it\\'s LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = '\\\\' LIMIT 10", None, 10),
        ("SELECT event AS `LIMIT 10` FROM events", None, None),
        ('SELECT event AS "LIMIT 10" FROM events', None, None),
        ('SELECT event AS "a"" LIMIT 10" FROM events LIMIT 4', None, 4),
        ("SELECT event AS `a`` LIMIT 10` FROM events LIMIT 4", None, 4),
        ("SELECT event FROM events WHERE event = 'a' LIMIT 7", None, 7),
        ("SELECT f'a{b + f'c{d}'}e LIMIT 9' FROM events LIMIT 5", None, 5),
        ("SELECT f'it''s {concat('}', a)} \\{' FROM events LIMIT 5", None, 5),
        ("SELECT f'{a}' LIMIT 5", None, 5),
        ("SELECT {'a': 1, 'b}': 2} FROM events LIMIT 5", None, 5),
        # brackets
        ("SELECT * FROM (SELECT event FROM events LIMIT 10)", None, None),
        ("SELECT * FROM (SELECT event FROM events LIMIT 10) LIMIT 3", None, 3),
        ("WITH x AS (SELECT 1 LIMIT 9) SELECT * FROM x", None, None),
        ("SELECT [1, 2], (1, 2), ')' FROM events LIMIT 4", None, 4),
        ("SELECT <a href='x'>it's -- LIMIT 9 {b}</a> FROM events LIMIT 4", None, 4),
        ("SELECT a <b AND c> d, 'x' FROM events LIMIT 4", None, 4),
        ("SELECT a<b FROM events LIMIT 4", None, 4),
        # names
        ("SELECT limit FROM t", None, None),
        ("SELECT properties.limit, properties.union FROM events LIMIT 8", None, 8),
        ("SELECT properties?.limit FROM events LIMIT 8", None, 8),
        ("SELECT limits, LIMITED FROM t", None, None),
        ("SELECT limit limit 5", None, 5),
        ("SELECT x AS limit FROM t ORDER BY limit LIMIT 5", None, 5),
        ("SELECT x AS limit FROM t ORDER BY limit DESC", None, None),
        ("SELECT x FROM t WHERE limit = 5", None, None),
        ("SELECT x FROM t WHERE x = limit AND limit > 3 LIMIT 4", None, 4),
        ("SELECT x AS union FROM t LIMIT 300000", None, 300_000),
        ("SELECT x AS except, y AS intersect FROM union LIMIT 300000", None, 300_000),
        ("WITH 1 AS union SELECT union LIMIT 4", None, 4),
        ("SELECT union (SELECT 1) LIMIT 4", None, 4),
        ("SELECT interval, cohort, all FROM t GROUP BY interval LIMIT 4", None, 4),
        ("SELECT CASE limit WHEN 1 THEN 2 END LIMIT 3", None, 3),
        ("SELECT x -> x.limit, 3 LIMIT 3", None, 3),
        ("SELECT a, count() FROM t GROUP BY a, LIMIT 5", None, 5),
        # placeholders
        ("SELECT event FROM events LIMIT {n}", {"n": 6}, 6),
        ("SELECT event FROM events LIMIT { n }", {"n": "6"}, 6),
        ("SELECT event FROM events LIMIT {N}", {"N": 6}, 6),
        ("SELECT event FROM events LIMIT {n} * 2", {"n": 6}, 12),
        ("SELECT event FROM events LIMIT {n * 2}", {"n": 6}, 12),
        ("SELECT event FROM events LIMIT {variables.n}", {"variables.n": 6}, 6),
        ("SELECT event FROM events WHERE event = {e} LIMIT 2", {"e": "LIMIT 9"}, 2),
        ("SELECT {limit} FROM events", {"limit": 5}, None),
        # sums
        ("SELECT event FROM events LIMIT (300000)", None, 300_000),
        ("SELECT event FROM events LIMIT 1000*300", None, 300_000),
        ("SELECT event FROM events LIMIT (1000 * (2 + 1)) - 1 -- rows", None, 2_999),
        ("SELECT event FROM events LIMIT 7-2-1", None, 4),
        ("SELECT event FROM events LIMIT 10 % 3", None, 1),
        ("SELECT event FROM events LIMIT 0x10", None, 16),
        ("SELECT event FROM events LIMIT 010", None, 10),
        # LIMIT n BY
        ("SELECT event FROM events LIMIT 1 BY event", None, None),
        ("SELECT event FROM events LIMIT 1, 2 BY event", None, None),
        ("SELECT event FROM events LIMIT 1 OFFSET 2 BY event", None, None),
        ("SELECT event FROM events LIMIT 1 BY event, 2 LIMIT 5", None, 5),
    ],
)
def test_the_limit_of_one_select(sql: str, values: Any, expected: int | None) -> None:
    assert arms(sql, values) == ([NONE] if expected is None else of(expected))


@pytest.mark.parametrize(
    ("limit", "values"),
    [
        *[(text, None) for text in ("x", "1 + x", "1.5", "1e3", "toInt(5)", "if(1, 2, 3)", "(SELECT 5)", "ALL", "-5")],
        *[("{n}", values) for values in (None, {}, ["n"], {"N": 6}, {"n": None}, {"n": "x"}, {"n": 1.5}, {"n": True})],
        ("9" * 5000, None),
        ("{n}", {"n": "9" * 5000}),
    ],
)
def test_a_limit_that_can_not_be_read_is_there_and_unknown(limit: str, values: Any) -> None:
    assert arms(f"SELECT event FROM events LIMIT {limit}", values) == [UNREADABLE]


@pytest.mark.parametrize("limit", ["1 WITH TIES", "3 WITH TIES OFFSET 3", "10%", "10 % OFFSET 3"])
def test_a_limit_that_is_no_number_of_rows(limit: str) -> None:
    assert arms(f"SELECT event FROM events LIMIT {limit}") == [STRETCHES]


# Several.

_DISTINCT = {"UNION DISTINCT"}
_BOTH = {"EXCEPT", *_DISTINCT}


@pytest.mark.parametrize(
    ("sql", "expected", "operators", "tail"),
    [
        ("SELECT 1 UNION ALL SELECT 2", [NONE, NONE], {"UNION ALL"}, False),
        ("select 1 limit 5 union all select 2 limit 7", of(5, 7), {"UNION ALL"}, False),
        ("SELECT 1 LIMIT 5 UNION ALL SELECT 2", [*of(5), NONE], {"UNION ALL"}, False),
        ("SELECT 1 UNION ALL SELECT 2 LIMIT 7", [NONE, *of(7)], {"UNION ALL"}, False),
        ("SELECT 1 UNION SELECT 2 LIMIT 7", [NONE, *of(7)], {"UNION DISTINCT"}, False),
        ("SELECT 1 a UNION DISTINCT SELECT 2", [NONE, NONE], {"UNION DISTINCT"}, False),
        ("SELECT 1 EXCEPT SELECT 2 LIMIT 300000", [NONE, *of(300_000)], {"EXCEPT"}, False),
        ("SELECT 1 LIMIT 2 INTERSECT SELECT 2 LIMIT 3", of(2, 3), {"INTERSECT"}, False),
        ("SELECT 1 EXCEPT ALL SELECT 2", [NONE, NONE], {"EXCEPT ALL"}, False),
        ("SELECT 1 INTERSECT DISTINCT SELECT 2", [NONE, NONE], {"INTERSECT DISTINCT"}, False),
        ("SELECT 1 UNION ALL BY NAME SELECT 2", [NONE, NONE], {"UNION ALL"}, False),
        ("(SELECT 1) UNION ALL (SELECT 2)", [NONE, NONE], {"UNION ALL"}, False),
        ("(SELECT 1 LIMIT 5) UNION ALL (SELECT 2 LIMIT 7)", of(5, 7), {"UNION ALL"}, False),
        ("(SELECT 1) UNION ALL (SELECT 2) LIMIT 7", [NONE, NONE], {"UNION ALL"}, True),
        ("SELECT 1 LIMIT 3 UNION ALL (SELECT 2) LIMIT 4", [*of(3), NONE], {"UNION ALL"}, True),
        ("SELECT 1 LIMIT 3 UNION ALL SELECT 2 LIMIT 3 LIMIT 4", of(3, 3), {"UNION ALL"}, True),
        ("(SELECT 1 UNION ALL SELECT 2) LIMIT 7", [NONE, NONE], {"UNION ALL"}, True),
        ("(SELECT 1 LIMIT 1) UNION ALL (SELECT 2 LIMIT 1) OFFSET 1", of(1, 1), {"UNION ALL"}, True),
        ("SELECT 1 LIMIT 1 UNION ALL SELECT 2 LIMIT 1 OFFSET 1", of(1, 1), {"UNION ALL"}, True),
        ("(SELECT 1 LIMIT 1) UNION ALL (SELECT 2 LIMIT 1) ORDER BY 1", of(1, 1), {"UNION ALL"}, False),
        ("SELECT 1 UNION ALL ((SELECT 2 LIMIT 3) LIMIT 5)", [NONE, *of(5)], {"UNION ALL"}, False),
        ("(SELECT 1 UNION ALL SELECT 2) UNION ALL SELECT 3 LIMIT 5", [NONE, NONE, *of(5)], {"UNION ALL"}, False),
        ("SELECT 1 LIMIT 1 EXCEPT (SELECT 2 LIMIT 2 UNION SELECT 3)", [*of(1, 2), NONE], _BOTH, False),
        ("WITH a AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM a", [NONE], set(), False),
        ("WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2 LIMIT 5", [NONE, *of(5)], {"UNION ALL"}, False),
        ("WITH a AS (SELECT 1) (SELECT 2) UNION ALL SELECT 3", [NONE, NONE], {"UNION ALL"}, False),
        ("WITH (SELECT 5) AS total (SELECT total) UNION ALL (SELECT 3)", [NONE, NONE], {"UNION ALL"}, False),
        ("WITH a AS MATERIALIZED (SELECT 1), b AS (SELECT 2) SELECT 3 UNION SELECT 4", 2 * [NONE], _DISTINCT, False),
        ("SELECT 1 LIMIT 2 UNION ALL (WITH z AS (SELECT 1) SELECT 2 LIMIT 3)", of(2, 3), {"UNION ALL"}, False),
        ("WITH union AS (SELECT 1) SELECT * FROM union UNION ALL SELECT 2", [NONE, NONE], {"UNION ALL"}, False),
        ("SELECT * FROM (SELECT 1 UNION ALL SELECT 2) LIMIT 7", of(7), set(), False),
        ("SELECT 1 WHERE x IN (SELECT 1 EXCEPT SELECT 2) LIMIT 7", of(7), set(), False),
        ("SELECT x AS union UNION ALL SELECT y AS except LIMIT 2", [NONE, *of(2)], {"UNION ALL"}, False),
        ("SELECT properties.union FROM events UNION ALL SELECT t.except FROM t", [NONE, NONE], {"UNION ALL"}, False),
        ("SELECT 1 -- UNION ALL SELECT 2\r UNION ALL SELECT 3", [NONE, NONE], {"UNION ALL"}, False),
        ("SELECT 1 /* it's */ UNION /* x */ ALL // y\n SELECT 3", [NONE, NONE], {"UNION ALL"}, False),
        ("SELECT 1 # UNION ALL SELECT 2", [NONE], set(), False),
        ("SELECT 1 LIMIT 2 UNION ALL {x}", [*of(2), NONE], {"UNION ALL"}, False),
        ("{x} UNION ALL SELECT 1 LIMIT 2", [NONE, *of(2)], {"UNION ALL"}, False),
        ("SELECT 1, union(SELECT 1) LIMIT 4", [NONE, NONE], {"UNION DISTINCT"}, True),
        ("SELECT 1 /* UNION ALL SELECT 2", [NONE, NONE], {"UNION ALL"}, False),
        ("SELECT 1 LIMIT 1 UNION ALL SELECT 2 LIMIT 10%", [*of(1), STRETCHES], {"UNION ALL"}, False),
        ("SELECT 1 LIMIT 1 UNION ALL SELECT 2 LIMIT n", [*of(1), UNREADABLE], {"UNION ALL"}, False),
        ("SELECT 1 LIMIT 5 BY x UNION ALL SELECT 2 LIMIT 1", [NONE, *of(1)], {"UNION ALL"}, False),
    ],
)  # fmt: skip
def test_the_limit_of_each_select(sql: str, expected: list[Arm], operators: set[str], tail: bool) -> None:
    found = limits_of(sql)
    # What is not a statement of PostHog's, an operator called like a function, may be taken for more than it is.
    assert ([*found.arms], found.operators) == (expected, operators)
    assert found.tail == tail or sql.startswith("SELECT 1, union(")


@dataclass(frozen=True)
class Tree:
    """SELECTs that operators bring together: its leaves are LIMITs."""

    parts: list[Any]
    operators: list[str]

    def limits(self) -> list[int | None]:
        return [limit for part in self.parts for limit in (part.limits() if isinstance(part, Tree) else [part])]

    def names(self) -> set[str]:
        inner = [part.names() for part in self.parts if isinstance(part, Tree)]
        return {" ".join(name.upper().split()) for name in self.operators}.union(*inner)


LEAF = st.none() | st.integers(0, 10**6)
OPERATORS = st.sampled_from(["UNION ALL", "union  all", "UNION DISTINCT", "EXCEPT", "INTERSECT", "except ALL"])


def _tree(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    def build(drawn: list[Any]) -> st.SearchStrategy[Tree]:
        count = len(drawn) - 1
        return st.lists(OPERATORS, min_size=count, max_size=count).map(lambda operators: Tree(drawn, operators))

    return st.lists(parts, min_size=2, max_size=4).flatmap(build)


SPACES = st.sampled_from(
    [" ", "\n", " -- it's LIMIT 9\n", " // UNION ALL SELECT 1\r", " # LIMIT 5; 'x\n", " /* ' ( */ "]
)
COLUMNS = st.sampled_from(
    [
        "a",
        "limit",
        "x AS union",
        "'it''s'",
        "'UNION ALL SELECT 1'",
        "f'a{b + f'c{d}'}e'",
        "properties.limit",
        "(SELECT 1 UNION ALL SELECT 2 LIMIT 4)",
        "f(x, [1, 2])",
        "{n}",
        "`limit 5`",
        "<b>don't LIMIT 7 { a }</b>",
        "x -> x.except",
        "*",
    ]
)
TABLES = st.sampled_from(
    ["", "FROM events", "FROM (SELECT 1 EXCEPT SELECT 2) AS s", "FROM t WHERE a = limit", "FROM union"]
)
WITHS = st.sampled_from(
    ["", "WITH a AS (SELECT 1 UNION ALL SELECT 2 LIMIT 4) ", "WITH 1 AS limit ", "WITH (SELECT 5) AS t "]
)


def _printed(tree: Any, draw: Any) -> str:
    space = draw(SPACES)
    if not isinstance(tree, Tree):
        limit = "" if tree is None else f"{draw(SPACES)}LIMIT{draw(SPACES)}{tree}"
        columns = ", ".join(draw(st.lists(COLUMNS, min_size=1, max_size=3)))
        text = f"{draw(WITHS)}SELECT{space}{columns}{space}{draw(TABLES)}{limit}{draw(SPACES)}"
        return f"({text})" if draw(st.booleans()) else text
    pieces = [_printed(tree.parts[0], draw)]
    for operator, part in zip(tree.operators, tree.parts[1:], strict=True):
        text = _printed(part, draw)
        pieces += [space, operator, draw(SPACES), f"({text})" if isinstance(part, Tree) else text]
    return "".join(pieces)


@given(st.data(), st.recursive(LEAF, _tree, max_leaves=8))
def test_whatever_is_brought_together_each_limit_is_read(data: st.DataObject, tree: Any) -> None:
    expected = tree.limits() if isinstance(tree, Tree) else [tree]
    found = limits_of(_printed(tree, data.draw))
    assert [*found.arms] == [NONE if limit is None else Arm(limit, written=True) for limit in expected]
    assert found.operators == (tree.names() if isinstance(tree, Tree) else set())


# Signs.

WORDS = ["SELECT ", "LIMIT ", "BY ", "UNION ALL ", "WITH ", "AS ", "OFFSET ", "5", "{n}", " ", "\n"]
SIGNS = [*"()[]'`{}#;%.", '"', "--", "/*", "*/", "//", "\\", "f'", "F'", "<a>", "</a>", "<a b='c'/>"]
FRAGMENTS = st.sampled_from([*WORDS, *SIGNS])


@given(st.lists(FRAGMENTS | st.text(max_size=3)).map("".join))
def test_any_text_is_read_to_its_end(sql: str) -> None:
    found = [*tokens(sql)]
    assert "".join(token.text for token in found) == sql
    assert [token.start for token in found] == [sum(len(each.text) for each in found[:at]) for at in range(len(found))]
    assert limits_of(sql, {"n": 4}).arms


@given(st.text(), st.integers(0, 10**9))
def test_quoted_text_does_not_matter(text: str, limit: int) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    assert arms(f"SELECT '{quoted}' FROM events LIMIT {limit}") == of(limit)
    assert arms(f"SELECT '{quoted}' FROM events") == [NONE]


@pytest.mark.parametrize(
    "part", ["'", "''", "\\'", "/*", "(", "{", "--", "'\\", "f'", "f'{", "<a>", "<a b='", "(SELECT ", "UNION ("]
)
def test_long_text_takes_no_long_time(part: str) -> None:
    began = time.thread_time()
    limits_of(part * 3000)
    assert time.thread_time() - began < 2


# Statements.


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 1;",
        " \n SELECT 1 ; ;\n;  ",
        "SELECT 1; -- x",
        "SELECT 1; // a; b\n",
        "SELECT 1; # a; b",
        "SELECT 1;/* ; */",
        "; SELECT 1",
    ],
)
def test_semicolons_at_the_end_are_dropped(sql: str) -> None:
    assert one_statement(sql) == "SELECT 1"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 -- all;",
        "SELECT 1 // a; b",
        "SELECT 1 # a;",
        "SELECT ';' /* ; */",
        "SELECT f'a;{';'}'",
        'SELECT `;`, ";"',
    ],
)
def test_a_semicolon_in_a_comment_or_text_is_none(sql: str) -> None:
    assert one_statement(sql) == sql


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "SELECT 1 -- ;\n; SELECT 2;", "SELECT 'a'; 'b'"])
def test_two_statements_are_refused(sql: str) -> None:
    assert len(statements(sql)) == 2
    with pytest.raises(PostHogSettingsError, match="holds 2 statements") as caught:
        one_statement(sql, "query")
    assert caught.value.field == "query"


@pytest.mark.parametrize("sql", ["", " \n", ";", " ; -- SELECT 1;", "/* SELECT 1 */", "# SELECT 1", None, 5])
def test_nothing_to_be_asked_is_refused(sql: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="hogql"):
        one_statement(sql)
