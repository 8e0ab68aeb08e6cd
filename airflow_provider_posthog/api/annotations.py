"""Annotations (``/api/projects/{id}/annotations/``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from airflow_provider_posthog.api.arguments import FILLED, Check, Limit, Number, Offset, Text, Time, time_text
from airflow_provider_posthog.api.call import Call, json_item, json_page
from airflow_provider_posthog.api.endpoint import endpoint

_READ = ("annotation:read",)
_WRITE = ("annotation:write",)
#: Characters of an annotation.
MAX_CONTENT = 8192
Content = Annotated[
    str,
    FILLED,
    Check(lambda text: len(text) <= MAX_CONTENT, f"is longer than {MAX_CONTENT:,} characters.", "Write less."),
]
Scope = Literal["project", "organization", "dashboard", "dashboard_item"]


class Annotation(TypedDict, total=False):
    """An annotation."""

    id: int
    content: str | None
    date_marker: str | None
    scope: str
    deleted: bool
    hidden_in_user_interface: bool
    created_at: str
    updated_at: str


class AnnotationPage(TypedDict, total=False):
    """A page of annotations."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Annotation]


@endpoint("GET", "annotations/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0, search: Text | None = None) -> Call[AnnotationPage]:
    """List annotations, those of the latest ``date_marker`` first.

    :param limit: annotations per page.
    :param offset: how many to leave out.
    :param search: only those with this text in their content.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None, "search": search})


@endpoint("POST", "annotations/", scopes=_WRITE)
def create(
    *,
    content: Content,
    date_marker: Time,
    scope: Scope = "project",
    emoji: str | None = None,
    hidden: bool = False,
) -> Call[Annotation]:
    """Make an annotation.

    :param content: its text.
    :param date_marker: the time that it marks.
    :param scope: where it is shown.
    :param emoji: shown with it.
    :param hidden: whether charts do not show it: for what comes often.
    """
    body: dict[str, Any] = {"content": content, "date_marker": time_text(date_marker), "scope": scope}
    if emoji:
        body["emoji"] = emoji
    return create.call(json_item, json={**body, "hidden_in_user_interface": hidden})


@endpoint("PATCH", "annotations/{id}/", scopes=_WRITE)
def update(annotation_id: Number, *, content: Content, date_marker: Time | None = None) -> Call[Annotation]:
    """Change an annotation.

    :param annotation_id: its number.
    :param content: the new text.
    :param date_marker: the time that it marks from now on; ``None`` to leave it.
    """
    body: dict[str, Any] = {"content": content}
    if date_marker is not None:
        body["date_marker"] = time_text(date_marker)
    return update.call(json_item, json=body, id=annotation_id)
