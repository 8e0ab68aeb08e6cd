"""PostHog's objects as Airflow assets: ``posthog://<host>/<project>/<kind>/<id>``.

A task that lists one in its ``outlets`` starts the DAGs that are scheduled on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Asset

_FORM = "posthog://<host>/<project id>/<kind>/<id>"
_EXAMPLE = "posthog://us.posthog.com/12345/dashboard/7"
_HOST = pattern(r"[a-z0-9_]+(?:[.-]+[a-z0-9_]+)*|[0-9a-f.]*:[0-9a-f:.]+")
_PATH = pattern(r"/(?P<project>[1-9][0-9]*)/(?P<kind>[a-z][a-z0-9_]*)(?:/(?P<id>[\w.-]+))?/?")


class Dataset(NamedTuple):
    """A dataset as OpenLineage names it."""

    namespace: str
    name: str


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check an asset's URI, and bring it into one form, so that the same thing is the same asset.

    :param uri: its parts.
    :raises ValueError: if it does not say host, project and kind of thing.
    """
    host, match = (uri.hostname or "").lower(), _PATH.fullmatch(uri.path)
    more = uri.query or uri.fragment or uri.username or uri.password
    try:
        port = f":{uri.port}" if uri.port else ""
    except ValueError:  # no number, or none of a port
        match, port = None, ""
    if not _HOST.fullmatch(host) or match is None or more:
        raise ValueError(f"an asset of PostHog is written {_FORM}, such as {_EXAMPLE}")
    path = "/".join(part for part in ("", *match.groups()) if part is not None)
    return SplitResult("posthog", f"[{host}]{port}" if ":" in host else f"{host}{port}", path, "", "")


def create_asset(
    *,
    project_id: int | str,
    kind: str,
    id: int | str | None = None,
    host: str = "us.posthog.com",
    extra: dict[str, Any] | None = None,
) -> Asset:
    """Make the asset of something in a PostHog project.

    :param project_id: the project's number.
    :param kind: what it is, such as ``dashboard``, ``insight``, ``events`` or ``persons``.
    :param id: which one, where there are several; of an insight its short id.
    :param host: the host of PostHog, without a scheme.
    :param extra: what else is known of it.
    :raises PostHogSettingsError: if that makes no URI.
    """
    from airflow_provider_posthog.compat import Asset

    path = "/".join(str(part) for part in ("", project_id, kind, id) if part is not None)
    try:
        parts = sanitize_uri(SplitResult("posthog", host, path, "", ""))
        if parts.path != path:  # an empty id would be the asset of all of its kind
            raise ValueError(f"an asset of PostHog is written {_FORM}, such as {_EXAMPLE}")
    except ValueError as error:
        raise PostHogSettingsError("uri", f"{host}{path} is none.", f"{error}."[0].upper() + f"{error}."[1:]) from None
    return Asset(uri=parts.geturl(), extra=extra)


def openlineage_namespace(base_url: str) -> str:
    """Return the namespace of a PostHog server's datasets in OpenLineage, the same as its assets have there.

    :param base_url: its address, such as ``https://us.posthog.com``.
    """
    parts = sanitize_uri(SplitResult("posthog", urlsplit(base_url).netloc, "/1/events", "", ""))
    return f"posthog://{parts.netloc}"


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Any:  # noqa: ANN401 - OpenLineage's Dataset
    """Translate an asset for OpenLineage; called only if its provider is installed.

    :param asset: the asset.
    :param lineage_context: OpenLineage's.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    scheme, _, rest = asset.uri.partition("://")
    host, _, name = rest.partition("/")
    return Dataset(namespace=f"{scheme}://{host}", name=name)
