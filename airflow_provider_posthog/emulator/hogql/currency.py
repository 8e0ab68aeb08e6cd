"""What money is worth in other money: PostHog's ``convertCurrency``, with rates that do not change.

PostHog has the rates of each day since 2000. Here a US dollar is worth the same on every day, so that what a test
expects stays right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# how much of each makes a US dollar
RATES = {
    "USD": "1",
    "EUR": "0.9",
    "GBP": "0.8",
    "CHF": "0.85",
    "SEK": "10",
    "NOK": "10.5",
    "DKK": "6.7",
    "PLN": "3.8",
    "CAD": "1.4",
    "AUD": "1.5",
    "NZD": "1.7",
    "BRL": "5.5",
    "MXN": "18",
    "INR": "85",
    "CNY": "7.2",
    "JPY": "150",
    "KRW": "1400",
    "SGD": "1.3",
    "ZAR": "18.5",
    "BTC": "0.00001",
}
_DIGITS = 10


def convert(args: Sequence[str], quote: Callable[[object], str]) -> str:
    """Write a call: money that PostHog knows no rate of becomes 0, on both sides.

    :param args: what the money is, what it becomes, how much, and perhaps when; written
    :param quote: writes a constant
    """
    source, target, amount = args[:3]
    sum_of_money = f"toDecimal64({amount}, {_DIGITS})"
    known, none, one = _rate(source, quote), _decimal("0"), _decimal("1")
    # ClickHouse works out both branches
    divisor = f"if(equals({known}, 0), {one}, {known})"
    converted = f"multiplyDecimal(divideDecimal({sum_of_money}, {divisor}), {_rate(target, quote)})"
    return f"if(equals({source}, {target}), {sum_of_money}, if(equals({known}, 0), {none}, {converted}))"


def _decimal(value: str) -> str:
    return f"toDecimal64('{value}', {_DIGITS})"


def _rate(money: str, quote: Callable[[object], str]) -> str:
    worth = f"[{', '.join(map(_decimal, RATES.values()))}]"
    return f"transform(ifNull({money}, ''), {quote([*RATES])}, {worth}, {_decimal('0')})"
