r"""The language of conditions on an insight's number, such as ``> 100`` or ``change >= -20 %``.

::

    condition   = [ "any" | "all" ] [ subject ] comparison
    subject     = "value" | ( "change" | "change_percent" ) [ "from previous point" | "from previous period" ]
    comparison  = ( ">" | ">=" | "<" | "<=" | "=" | "==" | "!=" ) number
                | [ "not" ] "between" number "and" number
    number      = digits with an optional sign, fraction and exponent, and an optional "%"

``any`` and ``all`` are for several series. ``change`` is the value minus the previous one; with ``%`` after the number
it is in percent of the previous one. ``between`` includes both ends.
"""

from __future__ import annotations

import math
import operator as operators
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

from airflow_provider_posthog.api.insight_series import Number, Reading
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern

Subject = Literal["value", "change", "change_percent"]
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
    "==": operators.eq,
    "!=": operators.ne,
}
_SPELLED = {"=": "==", "<>": "!=", "≥": ">=", "≤": "<=", "≠": "!="}
_NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)?(?:\.\d+)?(?:e[+-]?\d{1,3})?"
_CONDITION = pattern(
    r"(?:(?P<quantifier>any|all)\s+)?"
    r"(?:(?P<subject>value|change_percent|change)\b\s*)?"
    r"(?:from\s+(?:the\s+)?previous\s+(?P<versus>point|period)\s*)?"
    rf"(?:(?P<op>>=|<=|==|!=|<>|[><=≥≤≠])\s*(?P<number>{_NUMBER})\s*(?P<sign>%)?"
    rf"|(?P<outside>not\s+)?between\s+(?P<low>{_NUMBER})\s*(?P<low_sign>%)?\s+and\s+(?P<high>{_NUMBER})\s*(?P<high_sign>%)?)",
    re.IGNORECASE,
)
_LONGEST = 200
#: Floats below this are written as the whole number that they are.
_WHOLE = 1e15
_EXAMPLES = "Write one such as '> 100', 'between 5 and 9' or 'change >= -20 %'."


@dataclass(frozen=True)
class Condition:
    """A condition on a number.

    :param op: a key of :data:`OPERATORS`, ``between`` or ``not between``.
    :param low: the number to compare with, or the lower end.
    :param high: the upper end; the same as ``low`` with an operator.
    :param subject: what of the reading is compared.
    :param versus: what a change is measured from.
    :param percent: whether the numbers are percentages.
    :param quantifier: of several series: whether one has to meet it, or each; ``None`` if there is only one.
    """

    op: str
    low: Number
    high: Number
    subject: Subject = "value"
    versus: Literal["point", "period"] = "point"
    percent: bool = False
    quantifier: Literal["any", "all"] | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.quantifier, self.what if self.subject != "value" else "", self.test)))

    @property
    def what(self) -> str:
        """What is compared, in words."""
        if self.subject == "value":
            return "value"
        return f"change from previous {self.versus}" if self.versus == "period" else "change"

    @property
    def test(self) -> str:
        """The comparison, in words."""
        sign = " %" if self.percent else ""
        if "between" in self.op:
            return f"{self.op} {self.low!r}{sign} and {self.high!r}{sign}"
        return f"{self.op} {self.low!r}{sign}"

    def holds(self, number: Number) -> bool:
        """Return whether a number meets it.

        :param number: the number.
        """
        if "between" in self.op:
            return (self.low <= number <= self.high) == (self.op == "between")
        return OPERATORS[self.op](number, self.low)

    def of(self, reading: Reading) -> Number | None:
        """Return what of a reading is compared; ``None`` if it is not known.

        :param reading: the reading.
        :raises PostHogSettingsError: if an insight of that kind can never have it.
        """
        if self.subject == "value":
            if self.percent and not reading.percent and reading.value is not None:
                remedy = "Leave the % out, or write 'change'."
                _refuse("compares with percent, but the insight's value is not a percentage.", remedy)
            return reading.value
        return change(reading, self.versus, percent=self.subject == "change_percent")


def change(reading: Reading, versus: str = "point", *, percent: bool = False) -> Number | None:
    """Return by how much a number has changed; ``None`` if one of the two is not known.

    :param reading: the reading.
    :param versus: ``point`` (the one before) or ``period`` (the same place of the period before).
    :param percent: in percent of the earlier one; infinite if that is 0 and the other is not.
    """
    before = reading.previous if versus == "point" else reading.period
    if reading.value is None or before is None:
        return None
    difference = reading.value - before
    if not percent:
        return difference
    if before:
        return difference * 100 / abs(before)
    return math.copysign(math.inf, difference) if difference else 0.0


@dataclass(frozen=True)
class Judgement:
    """The outcome of a condition.

    :param met: whether it is met; ``None`` if that is not known because a number is missing.
    :param text: why, with each number that decided.
    :param reading: the reading that decided.
    :param number: what of it was compared.
    """

    met: bool | None
    text: str
    reading: Reading
    number: Number | None


def judge(condition: Condition, readings: Sequence[Reading]) -> Judgement:
    """Judge whether an insight's readings meet a condition.

    :param condition: the condition.
    :param readings: one for each selected series, at least one.
    :raises PostHogSettingsError: if there are several and the condition says neither any nor all, or none can have such
        a number.
    """
    if len(readings) > 1 and condition.quantifier is None:
        raise PostHogSettingsError(
            "condition",
            f"is for a single number, but {len(readings)} series are selected.",
            f"Write 'any {condition}' or 'all {condition}', or series= with one of them.",
        )
    judged = [_one(condition, reading) for reading in readings]
    deciding = next(judgement for met in _order(condition) for judgement in judged if judgement.met is met)
    if len(readings) == 1:
        return deciding
    return Judgement(
        deciding.met, "; ".join(judgement.text for judgement in judged[:10]), deciding.reading, deciding.number
    )


def _order(condition: Condition) -> tuple[bool | None, ...]:
    """Return which judgement of one series decides first: with ``any`` a yes does, else a no."""
    return (True, None, False) if condition.quantifier == "any" else (False, None, True)


def _one(condition: Condition, reading: Reading) -> Judgement:
    number = condition.of(reading)
    place = f" of {clean(reading.series)!r}" if reading.series else ""
    when = f" for {reading.date}" if reading.date else ""
    if number is None:
        return Judgement(None, f"{_missing(condition, reading, place)}", reading, None)
    met = condition.holds(number)
    sign = " %" if condition.subject == "change_percent" or (condition.subject == "value" and reading.percent) else ""
    text = f"{condition.what}{place}{when} is {shown(number)}{sign}"
    if condition.subject != "value":
        before = reading.previous if condition.versus == "point" else reading.period
        text += f" ({shown(before or 0)} to {shown(reading.value or 0)})"
    return Judgement(met, f"its {text}, {'' if met else 'not '}{condition.test}", reading, number)


def _missing(condition: Condition, reading: Reading, place: str) -> str:
    if reading.value is None:
        return f"it has no value{place}: {reading.reason}"
    if condition.versus == "period":
        return f"it has no number{place} of the period before: let the insight compare with it"
    return f"it has no point before the newest{place} that is complete: take a longer range"


def parse(text: object, *, field: str = "condition") -> Condition:
    """Read a condition.

    :param text: such as ``> 100``, ``between 5 and 9``, ``any > 0``, ``change >= -20 %``,
        ``change_percent from previous period < 10``. A number alone is refused: it does not say which way.
    :param field: what an error calls the argument.
    :raises PostHogSettingsError: if it is not a condition.
    """
    shape = text.strip().replace("\N{MINUS SIGN}", "-").replace("\u00a0", " ") if isinstance(text, str) else ""
    match = _CONDITION.fullmatch(shape) if len(shape) <= _LONGEST else None
    if match is None:
        _refuse(f"is {str(text)[:60]!r}, which is not a condition.", _EXAMPLES, field)
    part = match.groupdict()
    low = _number(part["number"] if part["op"] else part["low"], text, field)
    high = low if part["op"] else _number(part["high"], text, field)
    percent = bool(part["sign"] or part["low_sign"] or part["high_sign"])
    subject = (part["subject"] or "value").lower()
    if not part["op"] and bool(part["low_sign"]) is not bool(part["high_sign"]):
        _refuse(f"is {str(text)[:60]!r}, with only one end in percent.", "Write % behind both, or neither.", field)
    if low > high:
        _refuse(f"is {str(text)[:60]!r}, with its ends in the wrong order.", "Write the smaller one first.", field)
    if part["versus"] and subject == "value":
        _refuse(f"is {str(text)[:60]!r}, which is not a change.", "Write 'change from previous ...'.", field)
    if subject != "value":
        percent = percent or subject == "change_percent"
        subject = "change_percent" if percent else "change"
    op = _SPELLED.get(part["op"], part["op"]) if part["op"] else "not between" if part["outside"] else "between"
    quantifier = (part["quantifier"] or "").lower() or None
    versus = (part["versus"] or "point").lower()
    return Condition(op, low, high, subject, versus, percent, quantifier)  # type: ignore[arg-type]


def compared(operator: str, value: Number) -> Condition:
    """Make a condition out of an operator and a number.

    :param operator: a key of :data:`OPERATORS`.
    :param value: what to compare with.
    """
    return Condition(operator, value, value)


def _number(text: str, whole: object, field: str) -> Number:
    plain = text.replace(",", "").replace("_", "")
    try:
        number = float(plain)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        _refuse(f"is {str(whole)[:60]!r}, which has no number.", _EXAMPLES, field)
    return (
        int(plain)
        if re.fullmatch(r"[+-]?\d+", plain)
        else int(number)
        if abs(number) < _WHOLE and number.is_integer()
        else number
    )


def shown(number: Number) -> str:
    """Format a number for people: whole ones without a fraction, others with all significant digits.

    :param number: the number.
    """
    if isinstance(number, float) and math.isfinite(number) and number.is_integer() and abs(number) < _WHOLE:
        number = int(number)
    return repr(number) if isinstance(number, int) or not math.isfinite(number) else repr(round(number, 10))


def _refuse(problem: str, remedy: str, field: str = "condition") -> NoReturn:
    raise PostHogSettingsError(field, problem, remedy)
