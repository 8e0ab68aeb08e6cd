"""Files in one's own bucket as a table of PostHog's warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_posthog.api import warehouse
from airflow_provider_posthog.compat import BaseHook, mask_secret
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.base import PostHogOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments


#: What PostHog reads.
_FORMATS = ("Parquet", "CSVWithNames", "JSONEachRow", "DeltaS3Wrapper", "CSV", "JSON", "Delta")


class PostHogLinkTableOperator(PostHogOperator):
    """Makes files in one's own bucket a table of PostHog, or has PostHog read the columns of one again.

    The rows stay in the bucket, and PostHog reads them when it is queried: nothing is ingested, nothing billed as
    events. Once the table is there, the task only refreshes its columns, so that it may run with every load.

    ::

        PostHogLinkTableOperator(
            task_id="link",
            name="orders",
            url_pattern="https://lake.s3.eu-central-1.amazonaws.com/orders/*.parquet",
            bucket_conn_id="aws_lake_reader",
        )

    :param name: the table's name in HogQL.
    :param url_pattern: the files' address, ``https://...``, with ``*``; they have to be there.
    :param bucket_conn_id: the Airflow connection of a user who may only read them: its login is the access key, its
        password the secret. PostHog keeps both.
    :param format: ``Parquet``, ``CSVWithNames``, ``JSONEachRow`` or ``DeltaS3Wrapper``.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`.
    :returns: ``table_id``, ``table`` (its name), ``created`` (bool), ``columns`` (list of names).
    :raises PostHogSettingsError: if an argument is wrong, or a table of that name has other files.
    """

    operator_extra_links = (PostHogLink(),)
    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "name",
        "url_pattern",
        "bucket_conn_id",
        "format",
    )

    def __init__(
        self,
        *,
        name: str,
        url_pattern: str,
        bucket_conn_id: str,
        format: str = "Parquet",
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.url_pattern = url_pattern
        self.bucket_conn_id = bucket_conn_id
        self.format = format

    def execute(self, context: Context) -> dict[str, Any]:
        """Link the table, or refresh its columns."""
        self._check()
        client, settings = self.hook.client, self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/data-management/sources")
        known = [table for table in client.pages(warehouse.tables()) if table.get("name") == self.name]
        if known and str(known[0].get("format") or self.format) != self.format:
            raise PostHogSettingsError(
                "format", f"is not that of the table of that name, {clean(known[0]['format'])[:40]}.", "Write that one."
            )
        if known and known[0].get("url_pattern") != self.url_pattern:
            raise PostHogSettingsError(
                "name", f"the table {clean(self.name)[:60]!r} has other files.", "Take another name, or delete it."
            )
        if known:
            client.send(warehouse.refresh_table(str(known[0]["id"])))
            table: Mapping[str, Any] = next(
                table for table in client.pages(warehouse.tables()) if table["name"] == self.name
            )
        else:
            table = client.send(self._create())
        self.concludes("%s table %s", "Refreshed" if known else "Linked", self.name)
        return {
            "table_id": str(table.get("id")),
            "table": self.name,
            "created": not known,
            "columns": _names(table.get("columns")),
        }

    def _check(self) -> None:
        """Refuse what PostHog would, before anything is sent."""
        if not isinstance(self.name, str) or not self.name.strip():
            raise PostHogSettingsError("name", "is empty.", "Write the table's name in HogQL, such as 'orders'.")
        address = urlsplit(self.url_pattern) if isinstance(self.url_pattern, str) else urlsplit("")
        if address.scheme != "https" or not address.hostname or address.username or address.password:
            raise PostHogSettingsError(
                "url_pattern",
                "is not an https:// address without a key in it.",
                "Write https://bucket.s3.region.amazonaws.com/folder/*.parquet, and the key into bucket_conn_id.",
            )
        if self.format not in _FORMATS:
            raise PostHogSettingsError("format", "is none of PostHog's.", f"Write one of {', '.join(_FORMATS)}.")

    def _create(self) -> Any:  # noqa: ANN401 - a call
        connection = BaseHook.get_connection(self.bucket_conn_id)
        key, secret = connection.login, connection.password
        if not key or not secret:
            raise PostHogSettingsError(
                "bucket_conn_id", "has no login or no password.", "Write the access key and its secret into it."
            )
        mask_secret(secret)
        return warehouse.create_table(
            name=self.name,
            format=self.format,
            url_pattern=self.url_pattern,
            credential={"access_key": key, "access_secret": secret},
        )


def _names(columns: object) -> list[str]:
    if isinstance(columns, Mapping):
        return [str(name) for name in columns]
    if isinstance(columns, list):
        return [str(column.get("name")) for column in columns if isinstance(column, Mapping)]
    return []
