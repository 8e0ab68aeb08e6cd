"""What a look at an erasure costs PostHog: bytes that ClickHouse reads. ``python -m benchmarks.erasure_cost``.

ClickHouse holds 5 million events of 24 months in PostHog's schema. Persons who were active for two weeks each are
looked at as this provider does now, and as it did before. Writes a section of ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.erasure import counts
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.queries import packed, utc
from airflow_provider_posthog.erasure.work_file import Person
from benchmarks import measure
from benchmarks.clickhouse import ClickHouse, Server

START = datetime(2024, 6, 1, tzinfo=timezone.utc)
DAYS = 730
EVENTS_EACH = 20
_ACTIVE = 14
#: A look an hour was a look at all, for a month.
_BEFORE_LOOKS = 30 * 24
_TEXT = """### One check of an erasure

`python -m benchmarks.erasure_cost`: {events} events of 24 months in PostHog's schema, in ClickHouse (chdb); persons
who were active for two weeks, with {each} events each. *Along the key* are the checks that wait for PostHog's sweeps.
*Whole history* is the proof, made twice. A month of waiting took 720 checks before, and takes at most 12 now, two of
them proofs.

{table}
"""
_BEFORE = (
    "SELECT toString(person_id) AS owner, distinct_id, count() AS found,"
    " countIf(timestamp <= toDateTime({until})) AS before,"
    " countIf(timestamp > toDateTime({until}) AND created_at <= toDateTime({until})) AS future,"
    " max(timestamp) AS newest, max(created_at) AS arrived,"
    " maxIf(timestamp, timestamp <= toDateTime({until})) AS newest_before"
    " FROM events WHERE {where} GROUP BY owner, distinct_id LIMIT 50000"
)


@dataclass(frozen=True)
class Look:
    """What a look has cost.

    :param read: bytes that ClickHouse read.
    :param queries: how many.
    :param found: how many events.
    """

    read: int
    queries: int
    found: int


def before(client: ErasureClient, people: Sequence[Person], until: datetime) -> int:
    """Look as before: by UUID and by distinct id, at the whole history.

    :param client: asks.
    :param people: the persons.
    :param until: the moment of the request.
    """
    found: dict[tuple[str, str], int] = {}
    ids = sorted({name for person in people for name in person.distinct_ids})
    for column, values in (("toString(person_id)", [person.uuid for person in people]), ("distinct_id", ids)):
        for pack in packed(values):
            sql = _BEFORE.replace("{where}", f"{column} IN {{values}}")
            rows = client.rows_of(sql, {"values": pack, "until": utc(until)})
            found.update({(str(row[0]), str(row[1])): int(row[2]) for row in rows})
    return sum(found.values())


def along(client: ErasureClient, people: Sequence[Person], until: datetime) -> int:
    """Look along PostHog's key, as the sensor does while it waits.

    :param client: asks.
    :param people: the persons.
    :param until: the moment of the request.
    """
    found = counts.events_by_key(client, people, until, until - timedelta(days=1))
    return sum(each.all for each in found.values())


def whole(client: ErasureClient, people: Sequence[Person], until: datetime) -> int:
    """Look at the whole history, as the sensor does for the proof.

    :param client: asks.
    :param people: the persons.
    :param until: the moment of the request.
    """
    found = counts.events(client, people, until)
    return sum(each.all for each in found.values())


WAYS = {"before": before, "along the key": along, "whole history": whole}


class Bench:
    """A ClickHouse with events, and persons in it.

    :param events: how many events.
    :param persons: how many persons.
    """

    def __init__(self, events: int, persons: int) -> None:
        self.until = START + timedelta(days=DAYS)
        self.people: list[Person] = []
        self.clickhouse = ClickHouse()
        self.clickhouse.add_events(START, events, days=DAYS)
        came = f"toDateTime64('{START:%F %T}', 6, 'UTC') + toIntervalSecond(cityHash64(person) % {(DAYS - 15) * 86_400}"
        came += f" + cityHash64(person, step) % {_ACTIVE * 86_400})"
        person = "toUUID(concat('00000000-0000-5000-8000-', leftPad(toString(person), 12, '0')))"
        numbers = f"numbers({persons * EVENTS_EACH})"
        steps = f"SELECT intDiv(number, {EVENTS_EACH}) AS person, number % {EVENTS_EACH} AS step FROM {numbers}"
        name = "concat('gone-', toString(person))"
        row = f"generateUUIDv4(), '$pageview', '{{}}', {came}, 1, {name}, '', {came}, {person}"
        self.clickhouse.execute(f"INSERT INTO events SELECT {row} FROM ({steps})")
        self.clickhouse.settle()
        self.people = [
            Person(f"00000000-0000-5000-8000-{number:012}", (f"gone-{number}",)) for number in range(persons)
        ]

    def resolved(self, client: Client) -> None:
        """Note when the persons had events, as resolving them does.

        :param client: asks.
        """
        found = counts.events(ErasureClient(client), self.people, self.until)
        self.people = [
            replace(
                person,
                oldest_event=str(found[person.uuid].oldest and found[person.uuid].oldest.isoformat()),  # type: ignore[union-attr]
                newest_event=str(found[person.uuid].newest and found[person.uuid].newest.isoformat()),  # type: ignore[union-attr]
            )
            for person in self.people
        ]

    def look(self, way: str, people: Sequence[Person], client: Client) -> Look:
        """Look once.

        :param way: one of :data:`WAYS`.
        :param people: the persons.
        :param client: asks.
        """
        self.clickhouse.log.asked.clear()
        found = WAYS[way](ErasureClient(client), people, self.until)
        return Look(self.clickhouse.log.read, len(self.clickhouse.log.asked), found)


def measured(events: int, persons: Sequence[int]) -> dict[tuple[int, str], Look]:
    """Look at so many persons, each way.

    :param events: how many events there are.
    :param persons: how many persons, the most last.
    """
    bench = Bench(events, persons[-1])
    try:
        with Server(bench.clickhouse) as server:
            settings = ClientSettings(base_url=server.url, api_key="phx_" + "x" * 12, project_id=1)
            with Client(settings) as client:
                bench.resolved(client)
                return {(n, way): bench.look(way, bench.people[:n], client) for n in persons for way in WAYS}
    finally:
        bench.clickhouse.close()


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few events, and no page")
    arguments = parser.parse_args(given)
    events, persons = (20_000, (1, 20)) if arguments.quick else (5_000_000, (1, 10, 1000))
    looks = measured(events, persons)
    rows = [
        [
            f"{n:,} persons, {way}",
            f"{one.read / 1e6:,.1f}",
            one.queries,
            f"{one.found:,}",
            f"{_month(looks, n, way):,.1f}",
        ]
        for (n, way), one in looks.items()
    ]
    table = measure.table(["", "MB read", "queries", "events found", "GB in a month of waiting"], rows)
    print(table)
    if not arguments.quick:
        measure.write_section("erasure_cost", _TEXT.format(table=table, events=f"{events:,}", each=EVENTS_EACH))
    return 0 if all(one.found == n * EVENTS_EACH for (n, _), one in looks.items()) else 1


def _month(looks: dict[tuple[int, str], Look], persons: int, way: str) -> float:
    """Return the gigabytes of a month: 720 looks before; now ten along the key, and two at the whole history."""
    if way == "before":
        return looks[persons, way].read * _BEFORE_LOOKS / 1e9
    return (looks[persons, "along the key"].read * 10 + looks[persons, "whole history"].read * 2) / 1e9


if __name__ == "__main__":
    sys.exit(main())
