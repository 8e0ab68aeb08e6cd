"""Reads the fields of a body as Django REST framework's serializers do."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid

# how long PostHog's columns of the names of things are
NAME_LENGTH = 400
_TIME_FORMATS = "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]"


def text(body: Json, name: str, longest: int | None = None) -> str | None:
    """Return a text, or None; numbers become texts.

    :param body: of the request.
    :param name: of the field.
    :param longest: of how many characters.
    :raises ApiError: 400.
    """
    value = body.get(name)
    if isinstance(value, (dict, list, bool)):
        raise invalid("Not a valid string.", attr=name)
    if longest is not None and value is not None and len(str(value)) > longest:
        raise invalid(f"Ensure this field has no more than {longest} characters.", "max_length", name)
    return None if value is None else str(value)


def moment(body: Json, name: str) -> datetime | None:
    """Return a time, or None; one without a zone is UTC.

    :param body: of the request.
    :param name: of the field.
    :raises ApiError: 400.
    """
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        detail = f"Datetime has wrong format. Use one of these formats instead: {_TIME_FORMATS}."
        raise invalid(detail, attr=name) from None
    if "T" not in str(value).upper() and " " not in str(value):
        raise invalid("Expected a datetime but got a date.", "date", name)
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def flag(body: Json, name: str, default: bool) -> bool:
    """Return a boolean; many spellings are known.

    :param body: of the request.
    :param name: of the field.
    :param default: when it was not sent.
    :raises ApiError: 400.
    """
    value = body.get(name, default)
    if isinstance(value, (dict, list)):
        raise invalid("Must be a valid boolean.", attr=name)
    if value in (True, "true", "True", "TRUE", "t", "yes", "on", "1", 1):
        return True
    if value in (False, "false", "False", "FALSE", "f", "no", "off", "0", 0):
        return False
    raise invalid("Must be a valid boolean.", attr=name)


def tags(body: Json) -> list[str]:
    """Return the tags, each once, sorted.

    :param body: of the request.
    :raises ApiError: 400.
    """
    wanted = body.get("tags", [])
    if not isinstance(wanted, list):
        detail = f'Expected a list of items but got type "{type(wanted).__name__}".'
        raise invalid(detail, "not_a_list", "tags")
    return sorted({str(tag).strip().lower() for tag in wanted})


def number(body: Json, name: str, default: int | None = None) -> int | None:
    """Return a whole number, or None.

    :param body: of the request.
    :param name: of the field.
    :param default: when it was not sent.
    :raises ApiError: 400.
    """
    value = body.get(name, default)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    raise invalid("A valid integer is required.", attr=name)


def mapping(body: Json, name: str) -> Json:
    """Return an object.

    :param body: of the request.
    :param name: of the field.
    :raises ApiError: 400.
    """
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise invalid(f'Expected a dictionary of items but got type "{type(value).__name__}".', "not_a_dict", name)
    return value
