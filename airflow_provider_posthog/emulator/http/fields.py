"""Reads the fields of a body as Django REST framework's serializers do."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid


def text(body: Json, name: str) -> str | None:
    """Return a text, or None; numbers become texts.

    :param body: of the request.
    :param name: of the field.
    :raises ApiError: 400.
    """
    value = body.get(name)
    if isinstance(value, (dict, list, bool)):
        raise invalid("Not a valid string.", attr=name)
    return None if value is None else str(value)


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
    wish = body.get("tags", [])
    if not isinstance(wish, list):
        detail = f'Expected a list of items but got type "{type(wish).__name__}".'
        raise invalid(detail, "not_a_list", "tags")
    return sorted({str(each).strip().lower() for each in wish})


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
