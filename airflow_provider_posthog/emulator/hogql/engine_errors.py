"""ClickHouse's errors -> what PostHog shows of them."""

from __future__ import annotations

import re

from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.values import words

_ERROR = re.compile(r"Code: (\d+)\. DB::Exception: (.*?)(?: \(([A-Z][A-Z_0-9]+)\))?\.?\s*$", re.DOTALL)
# what the user may see: ClickHouse's own words ...
_OWN_WORDS = words(
    "too_many_arguments_for_function too_few_arguments_for_function bad_arguments number_of_arguments_doesnt_match "
    "illegal_type_of_argument illegal_column unknown_function unknown_identifier unknown_type type_mismatch "
    "illegal_type_of_column_for_filter unknown_table unknown_aggregate_function incorrect_query incompatible_columns "
    "zero_array_or_tuple_index illegal_division cyclic_aliases illegal_aggregation ambiguous_identifier "
    "not_an_aggregate incompatible_type_of_join too_many_bytes cannot_parse_uuid cannot_parse_bool no_common_type "
    "invalid_join_on_expression unsupported_method"
)
# ... or PostHog's, where ClickHouse's would quote stored data
_POSTHOG_WORDS = {
    "cannot_parse_text": "Cannot parse a value as the requested type. Check your input formats and type conversions.",
    "cannot_parse_date": "Cannot parse a date. Check your date values and their format.",
    "cannot_parse_datetime": "Cannot parse a date and time. Check your datetime values and their format.",
    "cannot_parse_number": "Cannot parse a number. Check for non-numeric values in your type conversions.",
    "argument_out_of_bound": "An argument is out of bounds.",
    "cannot_convert_type": (
        "Cannot convert one type to another in the query. Check the types in your comparisons and IN clauses."
    ),
    "incorrect_result_of_scalar_subquery": (
        "A scalar subquery returned more than one row, or an empty result that cannot be nullable. "
        "Make sure the subquery returns a single value."
    ),
    "too_large_array_size": (
        "An array has an invalid or unsupported size. Check array lengths and reduce the number of elements."
    ),
    "sizes_of_arrays_dont_match": (
        "Array sizes do not match. Make sure arrays used together have the same number of elements."
    ),
    "union_all_result_structures_mismatch": "Mismatched number of columns in UNION ALL.",
}
_OUR_SETTINGS = " SETTINGS transform_null_in = 1"
_TOO_LONG = (
    "Query has hit the max execution time before completing. "
    "See our docs for how to improve your query performance. You may need to materialize."
)
_TOO_BIG = (
    "Query exceeds memory limits. Try reducing its scope by changing the time range, or use fewer rows and columns."
)


def from_clickhouse(text: str, database: str) -> HogQLError:
    """Make the error PostHog answers with of one of ClickHouse's.

    :param text: ClickHouse's message
    :param database: the name of our database, which the user does not know and must not meet
    :returns: a status of 400 for what users may see, 504 for timeouts and memory, 500 with nothing said for the rest
    """
    match = _ERROR.search(text.replace(f"{database}.", "").replace(_OUR_SETTINGS, "").strip())
    if match is None:
        return HogQLError("ClickHouse error while executing query.", code="error", status=500)
    code = (match.group(3) or f"code_{match.group(1)}").lower()
    if code in _POSTHOG_WORDS:
        return HogQLError(_POSTHOG_WORDS[code], code=code)
    if code in _OWN_WORDS:
        return HogQLError(match.group(2).strip(), code=code)
    if code in ("timeout_exceeded", "memory_limit_exceeded"):
        detail = _TOO_LONG if code == "timeout_exceeded" else _TOO_BIG
        return HogQLError(detail, code=code, status=504)
    return HogQLError("ClickHouse error while executing query.", code=code, status=500)
