"""The proof that an answer is whole, fresh and no failure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.results.answer import ask, read

N = "SELECT number FROM numbers(500)"
LONE = ask("SELECT 1 AS n LIMIT 10")
WHOLE = {"results": [[1], [2]], "columns": ["n"], "types": [["n", "UInt8"]], "hasMore": None, "is_cached": False}

#: What PostHog would cut at 100 rows silently, or in a way that no number of rows shows.
UNPROVABLE = [
    f"{N} UNION ALL {N}",
    f"{N} UNION ALL {N} LIMIT 500",
    f"{N} LIMIT 500 UNION ALL {N}",
    f"({N}) UNION ALL ({N})",
    f"{N} LIMIT 500 UNION ALL {N} UNION ALL {N} LIMIT 500",
    f"({N} UNION ALL {N}) UNION ALL {N} LIMIT 500",
    f"WITH a AS ({N}) SELECT number FROM a UNION ALL {N} LIMIT 500",
    f"({N}) UNION ALL ({N}) LIMIT 500",
    f"({N} UNION ALL {N}) LIMIT 500",
    f"{N} LIMIT 600 UNION ALL {N} LIMIT toInt(600)",
    f"{N} LIMIT 600 UNION ALL {N} LIMIT 10%",
    f"{N} LIMIT 600 UNION ALL {N} LIMIT 1 BY number",
    f"{N} LIMIT 600 -- UNION\r union /* x */ all // y\n {N}",
    f"{N} UNION {N} LIMIT 500",
    f"{N} EXCEPT {N}",
    f"{N} LIMIT 60000 EXCEPT {N} LIMIT 500",
    f"{N} LIMIT 500 UNION DISTINCT {N} LIMIT 50001",
    f"({N} LIMIT 60000) UNION ALL ({N} LIMIT 600) LIMIT 500",
]
#: Whoever writes a LIMIT for each SELECT asks for no more.
ASKED_FOR = [
    f"({N} LIMIT 600) UNION ALL ({N} LIMIT 600) LIMIT 500",
    f"({N} LIMIT 600) UNION ALL ({N} LIMIT 600) OFFSET 550",
    f"{N} LIMIT 500 UNION DISTINCT {N} LIMIT 500",
    f"{N} LIMIT 500 EXCEPT {N} LIMIT 500",
    f"{N} LIMIT 500 INTERSECT {N} LIMIT 500",
    f"{N} LIMIT 500 UNION ALL ({N} LIMIT 500 INTERSECT {N} LIMIT 500)",
]


@pytest.mark.parametrize("sql", UNPROVABLE)
def test_what_posthog_could_cut_unseen_is_refused_with_the_form_to_write(sql: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        ask(sql, field="sql")
    assert caught.value.field == "sql"
    assert "SELECT * FROM (...) LIMIT n" in caught.value.remedy


@pytest.mark.parametrize("sql", ASKED_FOR)
def test_a_limit_of_each_select_is_what_was_asked_for(sql: str) -> None:
    assert read({**WHOLE, "results": [[1]] * 1000}, ask(sql)).cut is None


@pytest.mark.parametrize("sql", ASKED_FOR)
def test_and_is_refused_where_nobody_may_be_left_out(sql: str) -> None:
    with pytest.raises(PostHogSettingsError, match="hides that"):
        ask(sql, every_limit=True)


@pytest.mark.parametrize("sql", UNPROVABLE + ASKED_FOR)
@pytest.mark.parametrize("every_limit", [False, True])
def test_in_brackets_everything_may_be_asked(sql: str, every_limit: bool) -> None:
    wrapped = f"SELECT * FROM ({sql}\n) LIMIT 5000"
    assert ask(f"{wrapped};", every_limit=every_limit).sql == wrapped


@pytest.mark.parametrize(("rows", "whole"), [(0, True), (299, True), (300, False), (301, False), (800, False)])
def test_as_many_rows_as_the_smallest_limit_may_leave_somebody_out(rows: int, whole: bool) -> None:
    question = ask(f"{N} LIMIT 500 UNION ALL {N} LIMIT {{n}} * 3", {"n": 100}, every_limit=True)
    answer = read({**WHOLE, "results": [[1]] * rows}, question)
    if whole:
        assert answer.whole() is answer
    else:
        with pytest.raises(PostHogIncompleteError, match=r"LIMIT of 300: .*SELECT \* FROM \(\.\.\.\) LIMIT n"):
            answer.whole()


@pytest.mark.parametrize("sql", [f"{N} LIMIT 90000 UNION ALL {N} LIMIT 90000", f"{N} LIMIT 90000", N])
def test_fifty_thousand_rows_are_cut_whatever_was_asked_for(sql: str) -> None:
    sql = sql if "LIMIT" in sql else f"{sql} LIMIT 1 BY number"
    assert read({**WHOLE, "results": [[1]] * 49_999}, ask(sql)).cut is None
    with pytest.raises(PostHogIncompleteError, match=r"50,?000"):
        read({**WHOLE, "results": [[1]] * 50_000}, ask(sql)).whole()


@pytest.mark.parametrize(("rows", "every", "whole"), [(10, False, True), (9, True, True), (10, True, False)])
def test_a_lone_limit_is_what_was_asked_for_unless_nobody_may_be_left_out(rows: int, every: bool, whole: bool) -> None:
    answer = read({**WHOLE, "results": [[1]] * rows}, ask(f"{N} LIMIT 10", every_limit=every))
    assert (answer.cut is None) is whole


@pytest.mark.parametrize("limit", ["toInt(500)", "{n}", "10%", "1 WITH TIES"])
def test_a_lone_limit_that_can_not_be_read_is_refused_where_nobody_may_be_left_out(limit: str) -> None:
    assert ask(f"{N} LIMIT {limit}").most == 50_000
    with pytest.raises(PostHogSettingsError, match="LIMIT"):
        ask(f"{N} LIMIT {limit}", every_limit=True)


def test_a_whole_answer_is_what_it_is() -> None:
    answer = read(WHOLE, LONE)
    assert (answer.whole().rows, answer.names(), answer.kinds()) == ([[1], [2]], ["n"], ["UInt8"])


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"error": "Memory limit"}, PostHogJobFailed, "Memory limit"),
        ({"query_status": {"error": True, "error_message": "Unknown table"}}, PostHogJobFailed, "Unknown table"),
        ({"is_cached": True}, PostHogJobFailed, "cache"),
        ({"results": None}, PostHogTransportError, "no .results."),
        ({"results": {}}, PostHogTransportError, "not a list of rows"),
        ({"results": "rows"}, PostHogTransportError, "not a list of rows"),
        ({"results": [[1], {"n": 2}]}, PostHogTransportError, "not a list of rows"),
        ({"results": [[1], None]}, PostHogTransportError, "not a list of rows"),
        ({"results": [[1], [2, 3]]}, PostHogTransportError, "other lengths"),
        ({"columns": ["a", "b"]}, PostHogTransportError, "other lengths"),
        ({"columns": "n"}, PostHogTransportError, "columns"),
        ({"columns": [1]}, PostHogTransportError, "columns"),
        ({"columns": {"n": 1}}, PostHogTransportError, "columns"),
    ],
)
def test_what_proves_nothing_is_an_error(change: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        read({**WHOLE, **change}, LONE)


@pytest.mark.parametrize("answer", [None, 5, "rows", [], [[1]], {}, {"columns": ["n"]}])
def test_what_is_no_answer_is_an_error(answer: Any) -> None:
    with pytest.raises(PostHogTransportError, match=r"no .results."):
        read(answer, LONE)


def test_a_reason_that_could_name_somebody_is_not_shown() -> None:
    with pytest.raises(PostHogJobFailed, match="not shown") as caught:
        read({**WHOLE, "error": "no such name: Jane Doe"}, LONE, shows_reason=False)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("types", [None, 5, [], "UInt8", [["n"]], [5], [{"n": 1}], [["n", 7]], [["n", "UInt8"]] * 2])
def test_types_that_can_not_be_read_are_unknown(types: Any) -> None:
    assert read({**WHOLE, "types": types}, LONE).kinds() == [None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*WHOLE, "error", "query_status"])


@given(JSON | st.dictionaries(FIELDS, JSON).map(lambda some: {**WHOLE, **some}), st.sampled_from([LONE, None]))
def test_whatever_is_answered_is_read_or_an_error_of_ours(answer: Any, question: Any) -> None:
    try:
        found = read(answer, question)
        if found.columns is not None:
            assert len(found.kinds()) == len(found.names())
        found.whole()
    except PostHogError:
        pass
