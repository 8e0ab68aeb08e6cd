"""List what a deletion in PostHog does not reach, for the certificate.

Files that were exported before, what batch exports have loaded elsewhere, the member lists of static cohorts, and
group profiles stay as they are; and so does whatever others have received: through destinations and webhooks,
subscriptions, and PostHog's own warehouses. What the key may not see is named, too: "not looked at" is not "there is
none".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from airflow_provider_posthog.api import batch_exports, exports, groups
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.pages import Pages
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.audit.records import CannotErase
from airflow_provider_posthog.exceptions import (
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogServerError,
    PostHogValidationError,
)

T = TypeVar("T")

#: How many of each are listed; the certificate says if there are more.
MAX_LISTED = 1000


class Sender(Protocol):
    """Sends calls to a project, as every client does."""

    @property
    def settings(self) -> ClientSettings:
        """Where the project is."""

    def send(self, call: Call[T], /) -> T:
        """Send a call and return its value."""


_Looker = Callable[[Sender], list[dict[str, Any]]]


def residue(client: Sender) -> CannotErase:
    """List what PostHog cannot erase, as the ``cannot_erase`` of a record. Needs no scope, but reports missing ones.

    :param client: asks PostHog.
    :returns: ``exports``, ``batch_exports``, ``static_cohorts`` and ``group_types``; and those who may have received
        data: ``hog_functions``, ``subscriptions``, ``warehouse_sources``, ``elt_destinations`` and
        ``managed_warehouse``; each a list, or ``None`` with its reason in ``not_looked_at``.
    :raises PostHogError: if PostHog cannot be reached, or refuses the key as such.
    """
    lists: dict[str, list[dict[str, Any]] | None] = {}
    not_looked_at: dict[str, str] = {}
    for name, look in _LOOKERS.items():
        try:
            items = look(client)
        except PostHogPermissionError as error:
            # 403 names the scope; without one it is an endpoint that takes no personal API keys.
            reason = f"missing scope {error.scope}" if error.scope else "PostHog refuses it to this key"
        except PostHogNotFoundError:
            reason = _NOT_FOUND.get(name, "this server does not offer it")
        except (PostHogServerError, PostHogValidationError, PostHogQuotaError) as error:
            reason = f"PostHog answered {error.status}"
        else:
            lists[name] = items[:MAX_LISTED]
            if len(items) > MAX_LISTED:
                not_looked_at[name] = f"only the first {MAX_LISTED} are listed; there are more"
            continue
        lists[name] = None
        not_looked_at[name] = reason
    payload: Any = {**lists, "not_looked_at": not_looked_at}
    return cast("CannotErase", payload)


def exports_made(client: Sender) -> list[dict[str, Any]]:
    """List the exports that exist; PostHog shows those of the key's own user only, and forgets expired ones.

    :param client: asks PostHog.
    :returns: for each ``id``, ``export_format``, ``created_at`` and ``expires_after``; newest first.
    """
    return _rows(client, exports.list(limit=100), "id", "export_format", "created_at", "expires_after")


def destinations(client: Sender) -> list[dict[str, Any]]:
    """List the batch exports, which have copied persons or events to a destination of the user's.

    :param client: asks PostHog.
    :returns: for each ``id``, ``name``, ``type`` (such as ``S3``), ``model`` and ``paused``.
    """
    rows = _pages(client, batch_exports.list(limit=100))
    return [{**_picked(row, "id", "name", "model", "paused"), "type": _type_of(row)} for row in rows]


def static_cohorts(client: Sender) -> list[dict[str, Any]]:
    """List the static cohorts, whose lists of members do not follow a person's deletion.

    :param client: asks PostHog.
    :returns: for each ``id``, ``name`` and ``count``.
    """
    call = _list("cohorts", "cohort:read")
    rows = _pages(client, call, lambda row: row.get("is_static") is True and not row.get("deleted"))
    return [_picked(row, "id", "name", "count") for row in rows]


def group_types(client: Sender) -> list[dict[str, Any]]:
    """List the types of groups: PostHog has no deletion of a group, and its key stays on events of others.

    :param client: asks PostHog.
    :returns: for each ``group_type_index`` and ``group_type``.
    """
    rows = client.send(groups.types())
    return [_picked(row, "group_type_index", "group_type") for row in rows]


def hog_functions(client: Sender) -> list[dict[str, Any]]:
    """List the destinations and webhooks of PostHog's pipelines, which have sent events on; deleted ones are not shown.

    Servers until 2025 list destinations only, unless they are asked for the ``types``; later ones list all.

    :param client: asks PostHog.
    :returns: for each ``id``, ``name``, ``type`` and ``enabled``.
    """
    query = {"types": ",".join(_SENDING), "limit": 100}
    rows = _pages(client, _list("hog_functions", "hog_function:read", query), _sends)
    return [{**_picked(row, "id", "name", "enabled"), "type": row.get("type") or "destination"} for row in rows]


def subscriptions(client: Sender) -> list[dict[str, Any]]:
    """List the subscriptions, which send pictures and tables of insights; not to whom, as that is an address.

    :param client: asks PostHog.
    :returns: for each ``id``, ``title`` and ``target_type`` (``email``, ``slack`` or ``webhook``).
    """
    rows = _pages(client, _list("subscriptions", "subscription:read"), lambda row: not row.get("deleted"))
    return [_picked(row, "id", "title", "target_type") for row in rows]


def warehouse_sources(client: Sender) -> list[dict[str, Any]]:
    """List the sources that PostHog imports from: they bring a person's data back, and keep their own.

    :param client: asks PostHog.
    :returns: for each ``id``, ``source_type``, ``prefix`` and ``status``.
    """
    call = _list("external_data_sources", "external_data_source:read")
    return _rows(client, call, "id", "source_type", "prefix", "status")


def elt_destinations(client: Sender) -> list[dict[str, Any]]:
    """List the databases that PostHog writes imported tables to, since September 2026; its own warehouse is not one.

    :param client: asks PostHog.
    :returns: for each ``id``, ``name`` and ``type``.
    """
    call = _list("external_data_destinations", "external_data_source:read")
    rows = _pages(client, call, lambda row: row.get("is_posthog_warehouse") is not True)
    return [_picked(row, "id", "name", "type") for row in rows]


def managed_warehouse(client: Sender) -> list[dict[str, Any]]:
    """Return whether there is a managed warehouse: a copy of events and persons that no deletion is known to reach.

    PostHog refuses this to personal API keys (2026), so that it is mostly not looked at.

    :param client: asks PostHog.
    :returns: one with ``state`` and ``has_backfill``.
    """
    call: Call[dict[str, Any]] = Call(
        "data_warehouse.warehouse_status", "GET", "data_warehouse/warehouse_status/", json_object
    )
    row = client.send(call)
    return [_picked(row, "state", "has_backfill")]


#: The types of hog functions that send data out of PostHog.
_SENDING = ("destination", "site_destination", "internal_destination")
#: What a 404 means, where it is not that the server is too old.
_NOT_FOUND = {"managed_warehouse": "there is none, or this server does not offer it"}

_LOOKERS: Mapping[str, _Looker] = {
    "exports": exports_made,
    "batch_exports": destinations,
    "static_cohorts": static_cohorts,
    "group_types": group_types,
    "hog_functions": hog_functions,
    "subscriptions": subscriptions,
    "warehouse_sources": warehouse_sources,
    "elt_destinations": elt_destinations,
    "managed_warehouse": managed_warehouse,
}


def _sends(row: Mapping[str, Any]) -> bool:
    return (row.get("type") or "destination") in _SENDING  # the oldest servers have destinations only, and no type


def _list(path: str, scope: str, query: Mapping[str, Any] | None = None) -> Call[dict[str, Any]]:
    return Call(
        f"{path}.list", "GET", f"{path}/", json_page, query=query or {"limit": 100}, scopes=(scope,), paging="offset"
    )


def _rows(client: Sender, call: Call[Any], *names: str) -> list[dict[str, Any]]:
    rows = _pages(client, call)
    return [_picked(row, *names) for row in rows]


def _pages(client: Sender, call: Call[Any], wanted: Callable[[Mapping[str, Any]], bool] = bool) -> list[dict[str, Any]]:
    """Read a list up to one more than is listed, to see whether there are more."""
    pages = Pages(call, client.settings)
    rows: list[dict[str, Any]] = []
    while pages.next is not None and len(rows) <= MAX_LISTED:
        page = client.send(pages.next)
        rows += [row for row in pages.receive(page) if wanted(row)]
    return rows


def _picked(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Keep texts, whole numbers, booleans and nulls; PostHog documents nothing else."""
    picked = {name: row.get(name) for name in names}
    return {
        name: value if value is None or (isinstance(value, (str, int)) and not _is_negative(value)) else "?"
        for name, value in picked.items()
    }


def _is_negative(value: str | int) -> bool:
    return isinstance(value, int) and value < 0


def _type_of(row: Mapping[str, Any]) -> str | None:
    destination = row.get("destination")
    kind = destination.get("type") if isinstance(destination, Mapping) else None
    return kind if isinstance(kind, str) else None
