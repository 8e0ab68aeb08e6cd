"""Regular expressions that are compiled at their first use.

Airflow imports the modules of a DAG file again and again, in a fresh process each time. To compile the expressions of
all of them took a tenth of that time, and a DAG file that is only parsed uses none.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _Lazy:
    """Stands for a ``re.Pattern``, whose attributes it takes one by one as they are used."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a pattern
        if name.startswith("_"):  # what copy and pickle ask of an object that is not made yet
            raise AttributeError(name)
        attribute = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, attribute)  # from now on it costs what an attribute costs
        return attribute


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a regular expression that is compiled when it is first used.

    :param text: the expression.
    :param flags: those of :mod:`re`.
    """
    return cast("re.Pattern[AnyStr]", _Lazy(text, flags))
