"""Finding a statement's own LIMIT."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.hogql import limit_of


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("SELECT 1", None, None),
        ("", None, None),
        ("LIMIT", None, None),
        ("SELECT event FROM events LIMIT 10", None, 10),
        ("select event from events limit 10", None, 10),
        ("SELECT event FROM events\nLIMIT\n\t10\n", None, 10),
        ("SELECT event FROM events LIMIT 10 OFFSET 5", None, 10),
        ("SELECT event FROM events LIMIT 10 -- at the end", None, 10),
        ("SELECT event FROM events LIMIT /* how many */ 10", None, 10),
        # comments
        ("SELECT event FROM events -- LIMIT 10", None, None),
        ("SELECT event FROM events -- LIMIT 10\nLIMIT 5", None, 5),
        ("SELECT event /* LIMIT 10 */ FROM events", None, None),
        ("SELECT event FROM events LIMIT 5 /* LIMIT\n10 */", None, 5),
        ("SELECT '--' FROM events LIMIT 5", None, 5),
        # quotes
        ("SELECT event FROM events WHERE event = 'LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = 'it''s LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = 'it\\'s LIMIT 10'", None, None),
        ("SELECT event FROM events WHERE event = '\\\\' LIMIT 10", None, 10),
        ("SELECT event AS `LIMIT 10` FROM events", None, None),
        ('SELECT event AS "LIMIT 10" FROM events', None, None),
        ("SELECT event FROM events WHERE event = 'a' LIMIT 7", None, 7),
        # brackets
        ("SELECT * FROM (SELECT event FROM events LIMIT 10)", None, None),
        ("SELECT * FROM (SELECT event FROM events LIMIT 10) LIMIT 3", None, 3),
        ("WITH x AS (SELECT 1 LIMIT 9) SELECT * FROM x", None, None),
        ("SELECT [1, 2], (1, 2), ')' FROM events LIMIT 4", None, 4),
        # names
        ("SELECT limit FROM t", None, None),
        ("SELECT properties.limit, properties.union FROM events LIMIT 8", None, 8),
        ("SELECT limits, LIMITED FROM t", None, None),
        # placeholders
        ("SELECT event FROM events LIMIT {n}", {"n": 6}, 6),
        ("SELECT event FROM events LIMIT { n }", {"n": "6"}, 6),
        ("SELECT event FROM events LIMIT {N}", {"n": 6}, None),
        ("SELECT event FROM events LIMIT {N}", {"N": 6}, 6),
        ("SELECT event FROM events LIMIT {n}", None, None),
        ("SELECT event FROM events LIMIT {n}", ["n"], None),
        ("SELECT event FROM events WHERE event = {e} LIMIT 2", {"e": "LIMIT 9"}, 2),
        ("SELECT {limit} FROM events", {"limit": 5}, None),
        # LIMIT n BY
        ("SELECT event FROM events LIMIT 1 BY event", None, None),
        ("SELECT event FROM events LIMIT 1, 2 BY event", None, None),
        ("SELECT event FROM events LIMIT 1 OFFSET 2 BY event", None, None),
        ("SELECT event FROM events LIMIT 1 BY event LIMIT 5", None, 5),
        # each SELECT of a UNION has its own
        ("SELECT 1 UNION ALL SELECT 2", None, None),
        ("SELECT 1 LIMIT 5 UNION ALL SELECT 2 LIMIT 7", None, 12),
        ("SELECT 1 LIMIT 5 UNION ALL SELECT 2", None, None),
        ("SELECT 1 UNION ALL SELECT 2 LIMIT 7", None, None),
        ("SELECT * FROM (SELECT 1 UNION ALL SELECT 2) LIMIT 7", None, 7),
        ("SELECT 'UNION' LIMIT 7", None, 7),
        # what is no number
        ("SELECT 1 LIMIT 1 + x", None, 1),
        ("SELECT 1 LIMIT 1.5", None, None),
        ("SELECT 1 LIMIT x", None, None),
    ],
)
def test_limit(sql: str, values: Any, expected: int | None) -> None:
    assert limit_of(sql, values) == expected


FRAGMENTS = st.sampled_from(
    [
        "SELECT ",
        "LIMIT ",
        "BY ",
        "UNION ALL ",
        "5",
        " ",
        "(",
        ")",
        "[",
        "]",
        "'",
        '"',
        "`",
        "--",
        "\n",
        "/*",
        "*/",
        "{n}",
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=3)).map("".join))
def test_any_text(sql: str) -> None:
    found = limit_of(sql, {"n": 4})
    assert found is None or isinstance(found, int)


@given(st.text(), st.integers(0, 10**9))
def test_quoted_text_does_not_matter(text: str, limit: int) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    assert limit_of(f"SELECT '{quoted}' FROM events LIMIT {limit}") == limit
    assert limit_of(f"SELECT '{quoted}' FROM events") is None


@pytest.mark.parametrize("part", ["'", "''", "\\'", "/*", "(", "{", "--", "'\\"])
def test_long_text_takes_no_long_time(part: str) -> None:
    began = time.thread_time()
    limit_of(part * 5000)
    assert time.thread_time() - began < 2
