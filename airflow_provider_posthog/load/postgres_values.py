"""Values as PostgreSQL literals."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.patterns import pattern

#: Escapes whose own backslash is not escaped, and that jsonb does not keep: character 0, and half of a surrogate pair,
#: as is left where a script cut a text in the middle of an emoji.
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPED = r"(?<!\\)((?:\\\\)*)"
_NAME = pattern(r'"(?:[^"]|"")*"')
_NOT_JSONB = (rf"{_ESCAPED}\\u0000", rf"{_ESCAPED}{_HIGH}(?!{_LOW})", rf"(?<!{_HIGH}){_ESCAPED}{_LOW}")


def as_jsonb(text: str) -> str:
    """Return a text's expression with the escapes that jsonb does not keep as U+FFFD.

    :param text: the expression.
    """
    made = text
    for escape in _NOT_JSONB:
        made = rf"regexp_replace({made}, '{escape}', '\1\\ufffd', 'g')"
    positions = " + ".join(rf"position('\{start}' IN {text})" for start in ("u0000", "ud", "uD"))
    return f"CASE WHEN {positions} > 0 THEN {made} ELSE {text} END"


def literal(value: str | int) -> str:
    """Write a text or a number as a literal; without placeholders, a % in a column's name is harmless.

    :param value: the value.
    """
    if not isinstance(value, str):
        return str(int(value))
    text = value.replace("\0", "\ufffd").replace("\\", "\\\\").replace("'", "''")
    return f"E'{text}'"


def moment_of(moment: datetime) -> str:
    """Write a moment.

    :param moment: with an offset.
    """
    return f"TIMESTAMPTZ '{moment.isoformat(sep=' ')}'"


def escaped(statement: str) -> str:
    """Double each % in a name: in a statement with values it would be the sign for one.

    :param statement: SQL, with %s for each value.
    """
    return _NAME.sub(lambda name: name[0].replace("%", "%%"), statement)
