"""The UUIDs that a person had before a merge or a split, which rows loaded then still carry."""

from __future__ import annotations

import uuid

#: PostHog derives a person's UUID from its first distinct id with this (``posthog/models/person/missing_person.py``).
NAMESPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")


def former_uuids(project_id: int, distinct_id: str) -> tuple[str, str]:
    """Return the UUIDs that PostHog may have made for the person of a distinct id.

    The first is the one that a distinct id begins with; the second is the one that a split gives to a distinct id whose
    first UUID the other person keeps. Both may belong to somebody else by now: after a split, the first one does.

    :param project_id: the project's number.
    :param distinct_id: the distinct id.
    """
    name = f"{project_id}:{distinct_id}"
    return str(_uuid5(name)), str(_uuid5(f"{name}:split"))


def _uuid5(name: str) -> uuid.UUID:
    try:
        return uuid.uuid5(NAMESPACE, name)
    except UnicodeEncodeError:  # half a pair of surrogates, which PostHog has replaced before it made the UUID
        return uuid.uuid5(NAMESPACE, name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
