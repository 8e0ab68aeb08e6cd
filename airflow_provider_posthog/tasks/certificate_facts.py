"""What of a work file and of a look stands in a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_posthog.audit.records import Counts, PersonFacts
    from airflow_provider_posthog.erasure.identifiers import Identifier
    from airflow_provider_posthog.erasure.verify import Report
    from airflow_provider_posthog.erasure.work_file import Person, Totals, WorkFile

#: A record holds so many identifiers at the most; of more only those of the persons are told.
MAX_IDENTIFIERS = 10_000
_MAX_PLACES = 20


def places(work: WorkFile, uuids: Iterable[str]) -> str:
    """Name persons by their places in the work file, which has their UUIDs: a log or an XCom must not.

    :param work: the work file.
    :param uuids: of the persons.
    """
    wanted = {*uuids}
    numbers = [str(number) for number, person in enumerate(work.persons(), 1) if person.uuid in wanted]
    shown = ", ".join(numbers[:_MAX_PLACES]) + (
        f" and {len(numbers) - _MAX_PLACES} more" if len(numbers) > _MAX_PLACES else ""
    )
    return f"person {shown} of the work file"


def pairs(identifiers: Iterable[Identifier]) -> list[tuple[str, str]]:
    """Return identifiers as they are appended; of many, the first ones.

    :param identifiers: the identifiers.
    """
    return [(identifier.kind, identifier.value) for identifier in islice(identifiers, MAX_IDENTIFIERS)]


def before(person: Person) -> PersonFacts:
    """Return what there was of a person.

    :param person: as the work file has it.
    """
    counts: Counts = {
        "events": person.events,
        "newest_event": person.newest_event,
        "future_events": person.future_events,
        "recordings": person.recordings,
        "profiles": int(person.profile),
        "distinct_ids": len(person.distinct_ids),
        "others": person.others,
    }
    names = person.distinct_ids[:MAX_IDENTIFIERS]
    identifiers = [("distinct_id", name) for name in names]
    # An address is found again whatever its case, also where it is a distinct id.
    identifiers += [("email", name) for name in names if "@" in name]
    return {"uuid": person.uuid, "before": counts, "identifiers": identifiers}


def sums(totals: Totals) -> Counts:
    """Return what there was of all persons.

    :param totals: sums over the work file.
    """
    return {
        "events": totals.events,
        "newest_event": totals.newest_event,
        "future_events": totals.future_events,
        "recordings": totals.recordings,
        "profiles": totals.profiles,
        "distinct_ids": totals.distinct_ids,
        "others": totals.others,
    }


def after(report: Report) -> Counts:
    """Return what a look has counted.

    :param report: what it found.
    """
    totals = report.totals
    after: Counts = {
        "events": totals["events"],
        "future_events": totals["future_events"],
        "later_events": totals["later_events"],
    }
    if not report.unnamed:  # without distinct ids nobody can look for recordings: that is not the same as none
        after["recordings"] = totals["recordings"]
    return after
