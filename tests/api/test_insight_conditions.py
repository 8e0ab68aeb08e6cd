"""Conditions on numbers: how they are written, what they say, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.insight_conditions import OPERATORS, Condition, change, judge, parse
from airflow_provider_posthog.api.insight_series import Reading
from airflow_provider_posthog.exceptions import PostHogSettingsError

NUMBERS = st.integers(-(10**14), 10**14) | st.floats(allow_nan=False, allow_infinity=False, width=64)
READ = st.none() | st.integers(-(10**6), 10**6)


@st.composite
def conditions(draw: Any) -> Condition:
    subject = draw(st.sampled_from(["value", "change", "change_percent"]))
    op = draw(st.sampled_from([*OPERATORS, "between", "not between"]))
    low = draw(NUMBERS)
    high = max(low, draw(NUMBERS)) if "between" in op else low
    percent = subject == "change_percent" or (subject == "value" and draw(st.booleans()))
    versus = "point" if subject == "value" else draw(st.sampled_from(["point", "period"]))
    return Condition(op, low, high, subject, versus, percent, draw(st.sampled_from([None, "any", "all"])))


@given(conditions())
def test_what_a_condition_says_of_itself_is_read_as_the_same(condition: Condition) -> None:
    assert parse(str(condition)) == condition
    assert parse(f"  {str(condition).upper()} ") == condition


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_remedy(text: str) -> None:
    refusal, found = None, None
    try:
        found = parse(text)
    except PostHogSettingsError as error:
        refusal = error
    assert refusal is None or (refusal.field == "condition" and refusal.remedy.startswith("Write"))
    assert found is None or (math.isfinite(found.low) and found.low <= found.high)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("> 100", Condition(">", 100, 100)),
        (">100", Condition(">", 100, 100)),
        ("= 5", Condition("==", 5, 5)),
        ("<> 5", Condition("!=", 5, 5)),
        ("≥ 1,000", Condition(">=", 1000, 1000)),
        ("<= 1_000.5", Condition("<=", 1000.5, 1000.5)),
        ("value < -.5", Condition("<", -0.5, -0.5)),
        ("> \N{MINUS SIGN}3", Condition(">", -3, -3)),
        ("> 1e3", Condition(">", 1000, 1000)),
        ("between 5 and 9", Condition("between", 5, 9)),
        ("not between -1 and 1.5", Condition("not between", -1, 1.5)),
        ("change >= -20 %", Condition(">=", -20, -20, "change_percent", percent=True)),
        ("change >= -20", Condition(">=", -20, -20, "change")),
        ("change_percent >= -20", Condition(">=", -20, -20, "change_percent", percent=True)),
        ("change from the previous period > 5%", Condition(">", 5, 5, "change_percent", "period", percent=True)),
        ("change from previous point between -5% and 5 %", Condition("between", -5, 5, "change_percent", percent=True)),
        ("any > 0", Condition(">", 0, 0, quantifier="any")),
        ("ALL change > 0", Condition(">", 0, 0, "change", quantifier="all")),
        (">= 20 %", Condition(">=", 20, 20, percent=True)),
    ],
)
def test_conditions_as_people_write_them(text: str, expected: Condition) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "100", "> ", "> x", "> 1,5", "> 10,00", "> 1e999", "more than 5", "> 5 and < 9", "between 9 and 5"),
        *("between 5 and 9 %", "between 5% and 9", "between 5", "not > 5", "any", "change", "some > 5", "> {{ x }}"),
        *("value from previous point > 3", "change from previous week > 3", "> 5 %%", "> 5; drop", "> 1" + "0" * 300),
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        parse(text)
    assert refused.value.field == "condition"
    assert refused.value.remedy


@pytest.mark.parametrize("text", [None, 5, True, ["> 5"], {"op": ">"}])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(PostHogSettingsError, match="condition"):
        parse(text)


@given(conditions(), st.lists(st.builds(Reading, READ, previous=READ, period=READ, percent=st.just(True)), min_size=1))
def test_any_is_one_and_all_is_each_and_what_nobody_knows_is_neither(
    condition: Condition, readings: list[Reading]
) -> None:
    one = Condition(condition.op, condition.low, condition.high, condition.subject, condition.versus, condition.percent)
    each = [judge(one, [reading]).met for reading in readings]
    found = judge(Condition(**{**vars(one), "quantifier": "any"}), readings).met
    assert found is (True if True in each else None if None in each else False)
    found = judge(Condition(**{**vars(one), "quantifier": "all"}), readings).met
    assert found is (False if False in each else None if None in each else True)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_change_is_the_difference_and_its_share_of_what_was(before: int, now: int) -> None:
    reading = Reading(now, previous=before, period=before)
    assert change(reading) == change(reading, "period") == now - before
    percent = change(reading, percent=True)
    assert percent is not None
    if before:
        assert math.isclose(percent, Fraction((now - before) * 100, abs(before)))
    else:
        assert percent == (0 if now == 0 else math.copysign(math.inf, now))


@pytest.mark.parametrize("subject", ["change", "change_percent"])
@pytest.mark.parametrize("reading", [Reading(None, previous=3), Reading(3), Reading(3, previous=None, period=4)])
def test_without_one_of_the_two_there_is_no_change(subject: str, reading: Reading) -> None:
    found = judge(parse(f"{subject} > -1000000"), [reading])
    assert (found.met, found.number) == (None, None)
    assert found.text


def test_a_growth_from_nothing_is_more_than_any_percent() -> None:
    assert judge(parse("change >= -20 %"), [Reading(5, previous=0)]).met is True
    assert judge(parse("change < 1000 %"), [Reading(5, previous=0)]).met is False


def test_several_numbers_need_a_word_for_them() -> None:
    with pytest.raises(PostHogSettingsError, match="any > 5"):
        judge(parse("> 5"), [Reading(1), Reading(2)])


def test_percent_is_compared_with_percent_only() -> None:
    with pytest.raises(PostHogSettingsError, match="percent"):
        judge(parse("> 5 %"), [Reading(7)])
    assert judge(parse("> 5 %"), [Reading(7, percent=True)]).met is True
    assert judge(parse("> 5"), [Reading(7, percent=True)]).met is True


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        ("> 100", Reading(42, "2026-11-28"), "its value for 2026-11-28 is 42, not > 100"),
        ("> 100", Reading(420, "2026-11-28"), "its value for 2026-11-28 is 420, > 100"),
        ("between 5 and 9", Reading(4.5), "its value is 4.5, not between 5 and 9"),
        (
            "change >= -20 %",
            Reading(60, "2026-11-28", previous=100),
            "its change for 2026-11-28 is -40 % (100 to 60), not >= -20 %",
        ),
        ("> 50 %", Reading(12.5, series="paid", percent=True), "its value of 'paid' is 12.5 %, not > 50 %"),
        ("> 1", Reading(None, reason="there is no data for 2026-11-28"), "no value: there is no data for 2026-11-28"),
        ("change from previous period > 1", Reading(5), "compare"),
    ],
)
def test_the_text_says_date_value_and_condition(text: str, reading: Reading, expected: str) -> None:
    assert expected in judge(parse(text), [reading]).text
