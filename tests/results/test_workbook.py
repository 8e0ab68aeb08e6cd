"""Workbooks are read back, by another library, as the table that was written."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.results import files, workbook

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\ufffe\uffff"), min_size=1)
CELLS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e300, 1e300), TEXT)


def rows_of(data: bytes) -> list[list[Any]]:
    from openpyxl import load_workbook

    return [list(row) for row in load_workbook(io.BytesIO(data), read_only=True).active.values]


def _unescaped(value: Any) -> Any:
    from openpyxl.utils.escape import unescape

    return unescape(value) if isinstance(value, str) else value


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_every_cell_comes_back(rows: list[tuple[Any, Any]]) -> None:
    found = rows_of(workbook.workbook(("a", "b"), rows))
    assert found[0] == ["a", "b"]
    for row, expected in zip(found[1:], rows, strict=True):
        row = [*row, None, None][:2]  # it leaves out empty cells at the end
        assert list(map(_unescaped, row)) == [pytest.approx(e) if isinstance(e, float) else e for e in expected]


def test_what_a_number_of_excel_cannot_hold_is_text() -> None:
    cells = (2**53 + 1, -(2**60), float("inf"), "00123", "=1+1")
    assert rows_of(workbook.workbook("abcde", [cells]))[1] == [
        "9007199254740993",
        "-1152921504606846976",
        "Infinity",
        "00123",
        "=1+1",
    ]


def test_the_same_table_makes_the_same_bytes() -> None:
    assert workbook.workbook(("a",), [(1,)]) == workbook.workbook(("a",), [(1,)])


@pytest.mark.parametrize(
    ("columns", "rows"), [(("a",) * 16_385, []), (("a",), [("x" * 32_768,)]), (("a",), [()] * 1_048_576)]
)
def test_what_a_sheet_cannot_hold_is_refused(columns: Any, rows: Any) -> None:
    with pytest.raises(ValueError, match="holds"):
        workbook.workbook(columns, rows)


def test_the_suffix_says_so() -> None:
    assert files.format_of("s3://b/x.XLSX") == "xlsx"
    with pytest.raises(PostHogSettingsError, match="compressed itself"):
        files.format_of("x.xlsx.gz")
