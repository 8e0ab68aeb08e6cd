"""The emulator's reading of HogQL, judged by PostHog's own parser: over statements of every kind, and made-up ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from tests.support.every import failures
from tests.support.hogql_trees import read, theirs
from tests.support.posthog_parser import tree

_LINES = (Path(__file__).parent / "data" / "hogql_statements.txt").read_text(encoding="utf-8").splitlines()
STATEMENTS: dict[str, str] = {}
for _line in _LINES:
    if _line.startswith("== "):
        _group = _line[3:]
    elif "  | " in _line and not _line.startswith("#"):
        _what, _, _sql = _line.partition("  | ")
        STATEMENTS[f"{_group}: {_what}"] = _sql


#: What people write, and what newer parsers take: patterns of which each has to be among the statements.
KINDS = (
    *(r"UNION DISTINCT", r"INTERSECT", r"EXCEPT", r"\) UNION ALL \(.*\) LIMIT", r"\) UNION ALL .* ORDER BY"),
    *(r"LIMIT \d+ BY .* LIMIT", r"LIMIT \d+, ?\d+", r"OFFSET", r"WITH FILL", r"WITH TOTALS", r"GROUPING SETS"),
    *(r"WITH \(SELECT", r"WITH \w+\(", r"WITH RECURSIVE", r"QUALIFY", r"EXCLUDE", r"FILTER", r"EXISTS", r"VALUES"),
    *(r"NATURAL", r"RANGE BETWEEN INTERVAL", r"OVER", r"IS DISTINCT FROM", r"BETWEEN", r"FINAL", r"COLLATE"),
    *(r"CAST\(", r"::", r"f'", r"\{'", r"\?\.", r"TRIM\(BOTH", r"AS interval", r"\[1:2\]", r"\[-1\]", r"->"),
    *(r"properties\['", r"\{variables", r"filters\.dateRange", r"<a ", r"sparkline", r"matchesAction", r"IN COHORT"),
    *(r"--", r"//", r"#", r";$", r";.*SELECT", r"'\\d'", r"arrayJoin", r"JSONExtract", r"windowFunnel", r"toTimeZone"),
    *(r"system\.", r"FROM logs", r"heatmaps", r"\$is_bounce|\$channel_type", r"console_logs", r"issue_id"),
    *(r"elements_chain", r"aggregate_funnel", r"sortableSemVer", r"languageCodeToName", r"hubspot|stripe"),
)


def test_there_are_enough_statements_of_every_kind() -> None:
    assert len(STATEMENTS) == len(set(STATEMENTS.values())) > 400
    assert len({name.partition(":")[0] for name in STATEMENTS}) > 25
    missing = [kind for kind in KINDS if not any(re.search(kind, sql, re.IGNORECASE) for sql in STATEMENTS.values())]
    assert missing == []


def _is_judged_alike(name: str) -> None:
    _is_read_alike(STATEMENTS[name])


def _is_read_alike(sql: str) -> None:
    judged = tree(sql)
    if judged is None:
        with pytest.raises(HogQLError) as caught:
            read(sql)
        assert (caught.value.status, caught.value.code) == (400, "invalid_input")
    else:
        assert read(sql) == theirs(judged)


@pytest.mark.parametrize("group", dict.fromkeys(name.partition(":")[0] for name in STATEMENTS))
def test_what_posthog_reads_is_read_in_the_same_way_and_what_it_refuses_is_refused(group: str) -> None:
    assert failures([name for name in STATEMENTS if name.startswith(f"{group}:")], _is_judged_alike) == {}


_ATOM = st.sampled_from(["a", "b.c", "1", "'x'", "f(a)", "(a)", "(a, b)", "a[1]", "null", "{p}", "not (a)", "a::int"])
_BINARY = st.sampled_from(
    [
        *("+", "-", "*", "/", "%", "||", "=", "!=", "<=", ">=", "and", "or", "in", "not in", "like", "not ilike"),
        *("=~", "??", "<=>", "is distinct from", "is not distinct from"),
    ]
)


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {} {}".format, inner, _BINARY, inner),
        st.builds("{} between {} and {}".format, inner, inner, inner),
        st.builds("{} not between {} and {}".format, inner, inner, inner),
        st.builds("{} ? {} : {}".format, inner, inner, inner),
        st.builds("not {}".format, inner),
        st.builds("- {}".format, inner),
        st.builds("({})".format, inner),
        st.builds("{} is null".format, inner),
        st.builds("{} is not null".format, inner),
        st.builds("f({}, {})".format, inner, inner),
        st.builds("{}::int".format, inner),
    )


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(_ATOM, _deeper, max_leaves=3))
def test_operators_bind_as_they_do_for_posthog(expression: str) -> None:
    judged = tree(f"SELECT {expression} AS z")
    if judged is not None:
        assert read(f"SELECT {expression} AS z") == theirs(judged)


_PARTS = st.sampled_from(
    [
        *(
            "1",
            "2",
            "01",
            "08",
            "1e5",
            "1.5e3",
            "0x1F",
            "0b1",
            ".",
            ".",
            ".",
            "?.",
            " ",
            "a",
            "t.x",
            "(a)",
            "'x'",
            "f(a)",
        ),
        *("-", "+", "*2", "[1]", "::int", "(1, 2)", "{p}", "nan", "true", "null", "day", "not 1", "a and 1", " in .5"),
    ]
)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_PARTS, min_size=1, max_size=5), st.sampled_from(["", " AS z", " FROM t"]))
def test_dots_of_numbers_and_of_members_are_told_apart_as_posthog_does(parts: list[str], end: str) -> None:
    _is_read_alike(f"SELECT {''.join(parts)}{end}")
