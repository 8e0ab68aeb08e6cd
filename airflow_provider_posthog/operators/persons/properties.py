"""Properties of persons: removed or set, and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.erasure import PeopleOperator
from airflow_provider_posthog.tasks.erasure_handover import Handover
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.log_lines import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.generation import Server

    #: Changes some persons, by UUID, and returns which properties of whom are not as they should be.
    Change = Callable[[Sequence[str], Server, float], dict[str, list[str]]]

#: How many persons are changed and read back together.
_BATCH = 100


class PersonsArguments(PostHogArguments, total=False):
    """The arguments of :class:`_PersonsOperator`, for an editor and a type checker."""

    persons: Mapping[str, Any] | Sequence[str]
    timeout: float | timedelta
    object_storage_conn_id: str | None


class _PersonsOperator(PeopleOperator):
    """What the two operators share: whom they are about, and the reading back.

    :param persons: what ``PostHogResolvePersonsOperator`` returned; or person UUIDs.
    :param timeout: how long PostHog may take, in seconds or as a timedelta, until a change can be read back.
    :param object_storage_conn_id: Airflow's connection for the work file; by default the one that ``persons`` names.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. It is not recorded in a certificate.
    """

    page = "persons"
    template_fields: Sequence[str] = (*PeopleOperator.template_fields, "object_storage_conn_id", "persons")

    def __init__(
        self,
        *,
        persons: Mapping[str, Any] | Sequence[str],
        timeout: float | timedelta = 300.0,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.persons = persons
        self.timeout = timeout
        self.object_storage_conn_id = object_storage_conn_id

    def _uuids(self) -> Iterator[str]:
        from airflow_provider_posthog.erasure.identifiers import from_arguments

        if isinstance(self.persons, Mapping):
            yield from (
                person.uuid
                for person in Handover(conn_id=self.object_storage_conn_id).of(self.persons).work("persons").persons()
                if person.profile
            )
            return
        yield from (identifier.value for identifier in from_arguments(uuids=self.persons))

    def _change(self, what: str, change: Change) -> dict[str, Any]:
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.queries import batched

        timeout = seconds_of("timeout", self.timeout, 0)
        server = detect(self.client)
        count = 0
        wrong: dict[str, list[str]] = {}
        for uuids in batched(self._uuids(), _BATCH):
            count += len(uuids)
            wrong.update(change(uuids, server, timeout))
        if not count:
            raise PostHogSettingsError("persons", "is empty.", "Write what PostHogResolvePersonsOperator returned.")
        if wrong:
            raise PostHogJobFailed(
                f"Properties of {len(wrong)} of {count} persons were not {what} within {timeout:.0f} seconds, "
                f"though PostHog accepted it: {', '.join(sorted(wrong)[:20])}. Does ingestion run?"
            )
        self.concludes("Properties of %s were %s, and read back", counted(count, "person"), what)
        return {"persons": count}


class PostHogDeletePersonPropertyOperator(_PersonsOperator):
    """Removes properties of profiles, and reads back that they are gone.

    This is not an erasure: events keep their own copies of the values, and so do exports.

    .. code-block:: python

        PostHogDeletePersonPropertyOperator(task_id="no_phone", persons=resolve.output, properties=["phone"])

    :param persons: what ``PostHogResolvePersonsOperator`` returned; or person UUIDs.
    :param properties: the names of the properties, such as ``["email", "name"]``.
    :param timeout: how long PostHog may take, in seconds or as a timedelta, until they are gone.
    :param object_storage_conn_id: Airflow's connection for the work file; by default the one that ``persons`` names.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. It is not recorded in a certificate.
    :returns: ``persons`` (how many) and ``properties`` (the names).
    :raises PostHogJobFailed: if a property is still there; it names the persons.
    """

    template_fields: Sequence[str] = (*_PersonsOperator.template_fields, "properties")

    def __init__(
        self,
        *,
        properties: Sequence[str] | str,
        **kwargs: Unpack[PersonsArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.properties = properties

    def execute(self, context: Context) -> dict[str, Any]:
        """Remove them."""
        from airflow_provider_posthog.erasure.properties import remove

        names = [self.properties] if isinstance(self.properties, str) else [*self.properties]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise PostHogSettingsError("properties", "names no properties.", "Write their names, such as ['email'].")
        client = self.client
        done = self._change("removed", lambda uuids, server, timeout: remove(client, uuids, names, server, timeout))
        return {**done, "properties": names}


class PostHogUpdatePersonPropertiesOperator(_PersonsOperator):
    """Sets properties of profiles, the same for all, and reads back that they are set. Others stay.

    Values may be templates, but are no template fields, since Airflow stores and shows those.

    .. code-block:: python

        PostHogUpdatePersonPropertiesOperator(task_id="plan", persons=resolve.output, properties={"plan": "pro"})

    :param persons: what ``PostHogResolvePersonsOperator`` returned; or person UUIDs.
    :param properties: the values by name: JSON.
    :param timeout: how long PostHog may take, in seconds or as a timedelta, until they can be read.
    :param object_storage_conn_id: Airflow's connection for the work file; by default the one that ``persons`` names.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. It is not recorded in a certificate.
    :returns: ``persons`` (how many) and ``properties`` (the names).
    :raises PostHogJobFailed: if a value cannot be read back, or a person is not there; it names the persons.
    """

    def __init__(
        self,
        *,
        properties: Mapping[str, Any],
        **kwargs: Unpack[PersonsArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.properties = properties

    def execute(self, context: Context) -> dict[str, Any]:
        """Set them."""
        from airflow_provider_posthog.erasure.properties import write

        values = self.hidden(self.properties, context)
        if not isinstance(values, Mapping) or not values:
            raise PostHogSettingsError("properties", "holds none.", "Write a dictionary of values by name.")
        done = self._change("set", lambda uuids, server, timeout: write(self.client, uuids, values, server, timeout))
        return {**done, "properties": sorted(values)}
