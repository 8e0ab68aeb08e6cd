"""What limits the rows of a statement, judged by PostHog's own parser over statements that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.hogql.limits import Arm, limits_of
from tests.support.posthog_parser import tree

VALUES = {"v": 777}
BLANK = st.sampled_from(
    [" "] * 4 + ["\n", " -- union all select 1 limit 3\n", " /* LIMIT 7 ) */ ", " // limit 4 (\n", " # union\n"]
)
NAME = st.sampled_from(
    ["a", "event", "`limit`", '"union"', "limit_", "`a b`", "properties.limit", "x.union", "`from`", "e.`select`"]
)
NUMBER = st.integers(0, 300_000).map(str)
ODD = st.sampled_from(
    [
        *("'limit 5 union all'", "'it''s ) limit'", "'\\' union'", "'/* x'", "'-- y'", "count()", "interval 3 day"),
        *("{v}", "f'a{1}limit'", "{'limit': 3}", "a.1", "x::Int", "cast(a as Int)", "extract(day from a)", "[1, 2][1]"),
        *("not exists(select 1 limit 2)", "<a limit='3'>{a}</a>", "a is not distinct from b", "a between 1 and 2"),
        "(row_number() OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW))",
    ]
)
ALIAS = st.sampled_from(["", "", " AS x", " AS limit_", " AS `union`", ' AS "limit"', " AS union", " AS limit", " y"])
SOURCE = st.sampled_from(
    [
        *("events", "events e", "events AS union_", "numbers(500)", "events SAMPLE 0.1", "events, persons", "a.b.c"),
        *("events LEFT JOIN persons ON a = b", "events ARRAY JOIN [1] AS limit_", "persons FINAL"),
    ]
)
LIMIT = st.one_of(
    st.builds("LIMIT {}".format, NUMBER),
    st.builds("limit {}, {}".format, NUMBER, NUMBER),
    st.builds("LIMIT {} OFFSET {}".format, NUMBER, NUMBER),
    st.builds("LIMIT ({})".format, NUMBER),
    st.builds("LIMIT {} * 3".format, NUMBER),
    st.builds("LIMIT {} WITH TIES".format, NUMBER),
    st.builds("LIMIT {} BY a".format, NUMBER),
    st.builds("LIMIT {} BY a, b LIMIT {}".format, NUMBER, NUMBER),
    st.sampled_from(["LIMIT {v}", "OFFSET 3", "LIMIT 10 PERCENT", "LIMIT toInt(3)", "LIMIT a", "LIMIT 1e3"]),
)
OPERATOR = st.sampled_from(
    ["UNION ALL", "union all", "UNION DISTINCT", "UNION", "EXCEPT", "INTERSECT", "INTERSECT DISTINCT", "EXCEPT ALL"]
)


@st.composite
def selects(draw: st.DrawFn, deeper: st.SearchStrategy[str]) -> str:
    inner = st.builds("({})".format, deeper)
    value = st.one_of(NAME, NUMBER, ODD, inner, st.builds("a IN {}".format, inner))
    parts = [draw(st.sampled_from(["", "", "WITH a AS (SELECT 1 LIMIT 3)", "WITH 1 AS total", "WITH (SELECT 2) AS b"]))]
    columns = st.lists(st.builds("{}{}".format, value, ALIAS), min_size=1, max_size=3).map(", ".join)
    parts += ["SELECT", draw(st.sampled_from(["", "DISTINCT"])), draw(columns)]
    parts += ["FROM", draw(st.one_of(SOURCE, inner, st.builds("{} AS x".format, inner)))]
    parts += draw(st.one_of(st.just([]), st.builds(lambda each: ["WHERE", each], value)))
    parts += draw(st.sampled_from([[], [], ["GROUP BY", "a"], ["ORDER BY a DESC"], ["ORDER BY", "`limit`"]]))
    parts += draw(st.one_of(st.just([]), LIMIT.map(lambda each: [each])))
    return "".join(part + draw(BLANK) for part in parts if part)


@st.composite
def sets(draw: st.DrawFn, deeper: st.SearchStrategy[str]) -> str:
    bracketed = st.builds("({}){}".format, deeper, st.one_of(st.just(""), st.builds(" {}".format, LIMIT)))
    member = st.one_of(selects(deeper), deeper, bracketed)
    text = draw(member)
    for _ in range(draw(st.integers(0, 2))):
        text += draw(BLANK) + draw(OPERATOR) + draw(BLANK) + draw(member)
    return text


STATEMENTS = st.recursive(
    st.builds("SELECT {}{}".format, NAME, st.one_of(st.just(""), st.builds(" {}".format, LIMIT))), sets, max_leaves=4
)


def number(node: dict[str, Any] | None) -> int | None:
    """Read the number of a LIMIT; ``None`` for what is not written as one."""
    if node is not None and node["node"] == "Constant" and isinstance(node["value"], int):
        return node["value"]
    return VALUES["v"] if node is not None and node["node"] == "Placeholder" else None


def outermost(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the SELECTs that PostHog gives a LIMIT of its own."""
    if node["node"] == "SelectSetQuery":
        yield from outermost(node["initial_select_query"])
        for each in node["subsequent_select_queries"]:
            yield from outermost(each["select_query"])
    else:
        yield node


def operators(node: dict[str, Any]) -> Iterator[str]:
    if node["node"] == "SelectSetQuery":
        yield from operators(node["initial_select_query"])
        for each in node["subsequent_select_queries"]:
            yield each["set_operator"]
            yield from operators(each["select_query"])


def is_right(ours: Arm, theirs: dict[str, Any]) -> bool:
    """Whether nothing is taken for a LIMIT that is none, and none is overlooked or misread."""
    written = theirs.get("limit") is not None
    stretches = bool(theirs.get("limit_with_ties") or theirs.get("limit_percent"))
    expected = number(theirs.get("limit"))
    misread = None not in (ours.limit, expected) and ours.limit != expected
    # a number that we do not read is a refusal or a warning, never a cut unseen
    return ours.written == written and ours.stretches == stretches and not misread


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(STATEMENTS)
@example("(SELECT a LIMIT 5 WITH TIES) LIMIT 0")
@example("((SELECT a LIMIT 5 WITH TIES) LIMIT 2) LIMIT 3")
@example("(SELECT a LIMIT 1) LIMIT 2 WITH TIES")
def test_each_select_that_posthog_limits_is_an_arm_with_its_limit(sql: str) -> None:
    parsed = tree(sql)
    assume(parsed is not None)
    assert parsed is not None
    theirs, found = list(outermost(parsed)), limits_of(sql, VALUES)
    assert len(found.arms) == len(theirs)
    assert all(map(is_right, found.arms, theirs)), found
    if set(operators(parsed)) - {"UNION ALL"}:
        assert found.hides_cuts, "what is left out of one arm changes the rows of the whole"
