"""What came of :mod:`benchmarks.extract`, as a page and a chart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import measure
from benchmarks.chart import Bar, chart
from benchmarks.extract import FULL, OURS, PLAIN, TIGHT, Run, Situation
from benchmarks.measure import ROOM, ROOT, Cost

CHART = ROOT / "docs" / "benchmarks.svg"
NOTES = (
    "The limit reads pages of 10,000 rows and writes Parquet. The loop below it does the same, and imports pandas.",
    "In flight: queries at once. Old pages: PostHog before May 2026 gave 10,000 events a page. Today it gives 1,000,",
    "which Airbyte takes for the last page. Where no loss is shown, every event arrived, once. Who lost most is last.",
)
_HEAD = ["", "CPU s", "x the limit", "wall s", "peak MiB", "requests", "events landed"]

_TEXT = """## Every event into Parquet

`python -m benchmarks.extract`. A fake PostHog on the same machine has {events} events of 1.1 KB each, 2 % of them at
the same microsecond as the one before, and serves them from memory: at the most {server_cpu:.1f} s of its CPU a run.
Each client is a process; CPU, wall time and peak memory are those of the process and its children. Medians of {rounds},
which alternate; the peers run once where there are more events or a latency. No TLS, no gzip.

![CPU seconds and memory for {events} events](benchmarks.svg)

*The limit* is a loop of thirty lines that reads pages of 10,000 rows with `http.client`, parses them with orjson and
writes them with pyarrow: no count, no proof, no retry, one file. It keeps pyarrow from importing pandas, as this
provider does; *the same loop* does not. *This provider* is what `PostHogQueryToObjectStorageOperator` does: count,
windows, proof, files with checksums, manifest.

{tables}

{notes}

### Against our own targets

These targets compare CPU with *the same loop*, which is what people write, on a worker where pandas is installed. The
stricter figures are in the tables. A real latency is not 300 ms; it shows the gain of fewer and larger queries, three
at once.

{verdict}
"""

_NOTES = """\
- Airbyte's connector asks for pages of 10,000 events and takes a shorter one for the last. PostHog gives out
  1,000 since May 2026, so most events are lost without an error; *old pages* is the same connector on a server that
  still gives out 10,000, which PostHog Cloud does not. Its output is JSON lines, with no destination behind it.
- `GET events/` leaves out events at the same microsecond as a page's last one: hence the few that are missing with
  pandas and dlt. PostHog's look-back windows, which end such a reading much earlier, are not part of this fake.
- pandas with HogQL goes on after the time of a page's last row, and loses what is tied with it.
"""


class Report:
    """What came of the runs.

    :param runs: the runs.
    :param missing: which peers are not there, and why.
    :param versions: of the peers.
    """

    def __init__(self, runs: Sequence[Run], missing: Sequence[str], versions: Sequence[str]) -> None:
        self.runs = runs
        self.missing = list(missing)
        self.versions = list(versions)

    @property
    def situations(self) -> list[Situation]:
        """Where was read, in order."""
        return list(dict.fromkeys(run.situation for run in self.runs))

    @property
    def complete(self) -> bool:
        """Whether this provider landed every event once, each time."""
        return all(
            run.cost is not None and run.rows == run.distinct == run.situation.events
            for run in self.runs
            if run.kind == "ours"
        )

    def of(self, situation: Situation, client: str) -> list[Run]:
        """Return a client's runs that did not fail.

        :param situation: where.
        :param client: its name.
        """
        return [run for run in self.runs if (run.situation, run.client) == (situation, client) and run.cost]

    def cost(self, situation: Situation, client: str) -> Cost | None:
        """Return a client's median cost; ``None`` if it did not run.

        :param situation: where.
        :param client: its name.
        """
        costs = [run.cost for run in self.of(situation, client) if run.cost]
        return measure.median(costs) if costs else None

    def table(self, situation: Situation) -> str:
        """Return one situation's table.

        :param situation: which.
        """
        limit = self.cost(situation, TIGHT.name)
        rows = []
        for client in dict.fromkeys(run.client for run in self.runs if run.situation == situation):
            cost, runs = self.cost(situation, client), self.of(situation, client)
            if cost is None:
                rows.append([client, "failed", "", "", "", "", ""])
                continue
            times = f"{cost.cpu / limit.cpu:.2f}" if limit else ""
            least = min(run.distinct for run in runs)
            lost = situation.events - least
            landed = f"**{least:,}**, {lost:,} lost" if lost else f"{least:,}"
            figures = [f"{cost.cpu:.2f}", times, f"{cost.wall:.2f}", f"{cost.memory:.0f}", f"{runs[-1].requests:,}"]
            rows.append([client, *figures, landed])
        return measure.table(_HEAD, rows)

    def targets(self) -> list[tuple[str, str, str, bool]]:
        """Return each target: what, the goal, the figure, and whether it is met."""
        if not self.complete:  # to be fast with half of the rows is easy
            return [("events landed", "all, once", "not all", False)]
        found: list[tuple[str, str, str, bool]] = []
        for situation in self.situations:
            found += self._slow(situation) if situation.latency else self._fast(situation)
        still = [situation for situation in self.situations if not situation.latency]
        found += self._pages(still[-1]) if len(still) > 1 else []
        for client in OURS if len(still) > 1 else ():
            few, many = (self.cost(situation, client.name) for situation in (still[0], still[-1]))
            if few and many:
                growth = many.memory / few.memory
                what = f"peak memory, {still[-1].events:,} against {still[0].events:,} events, {client.name[15:]}"
                found.append((what, "at most 1.05 x", f"{growth:.2f} x", growth <= 1.05))
                # 400 MB
                found.append((f"peak memory, {client.name[15:]}", "< 381 MiB", f"{many.memory:.0f}", many.memory < 381))
        return found

    def _fast(self, situation: Situation) -> list[tuple[str, str, str, bool]]:
        found = []
        limit = self.cost(situation, PLAIN.name)
        for client in OURS:
            cost = self.cost(situation, client.name)
            if limit and cost:
                times = cost.cpu / limit.cpu
                what = f"CPU of the same loop, {situation}, {client.name[15:]}"
                found.append((what, "at most 1.2 x", f"{times:.2f} x", times <= 1.2))
        return found

    def _slow(self, situation: Situation) -> list[tuple[str, str, str, bool]]:
        """Compare with the limit, whose pages of 10,000 rows come one after the other."""
        limit, ours = self.cost(situation, TIGHT.name), self.cost(situation, OURS[0].name)
        if limit is None or ours is None:
            return []
        times = limit.wall / ours.wall
        return [
            (f"wall time of the limit, {situation}, 3 in flight", "at least 2 x faster", f"{times:.2f} x", times >= 2)
        ]

    def _pages(self, situation: Situation) -> list[tuple[str, str, str, bool]]:
        most = max((run.requests for run in self.of(situation, OURS[0].name)), default=0)
        if not most:
            return []
        rows = situation.events / most
        return [(f"rows a query, {situation}, counts included", "at least 35,000", f"{rows:,.0f}", rows >= 35_000)]

    def summary(self) -> str:
        """Return the tables and the targets, for a terminal."""
        parts = [f"\n{situation}\n{self.table(situation)}" for situation in self.situations]
        ours = [run for run in self.runs if run.kind == "ours"]
        landed, there = sum(run.distinct for run in ours), sum(run.situation.events for run in ours)
        rows = sum(run.rows for run in ours)
        parts += self.missing
        parts.append(f"this provider: rows landed {landed:,} = rows there {there:,}, {rows - landed:,} of them twice")
        if not self.complete:
            parts[-1] = f"this provider LOST ROWS: landed {landed:,}, there {there:,}, {rows - landed:,} of them twice"
        return "\n".join(parts)

    def verdict(self) -> str:
        """Return the targets as a table."""
        rows = [[what, goal, figure, "met" if met else "**missed**"] for what, goal, figure, met in self.targets()]
        return measure.table(["", "target", "measured", ""], rows)

    def write(self) -> None:
        """Write the page's section and the chart."""
        first = self.situations[0]
        tables = "\n\n".join(f"### {situation}\n\n{self.table(situation)}" for situation in self.situations)
        rounds = len(self.of(first, TIGHT.name))
        notes = _NOTES + (f"- {', '.join(self.versions)}.\n" if self.versions else "")
        notes += "".join(f"- {reason}.\n" for reason in self.missing)
        text = _TEXT.format(
            events=f"{first.events:,}",
            server_cpu=max(run.server_cpu for run in self.runs),
            rounds=f"{rounds} rounds" if rounds > 1 else "1 round",
            tables=tables,
            notes=notes.strip(),
            verdict=self.verdict(),
        )
        measure.write_section("extract", text)
        CHART.write_text(self._chart(first), encoding="utf-8")

    def _chart(self, situation: Situation) -> str:
        clients = list(dict.fromkeys((run.client, run.kind) for run in self.runs if run.situation == situation))

        def bars(value: Callable[[Cost], float], form: str) -> list[Bar]:
            made = []
            for client, kind in clients:
                if cost := self.cost(situation, client):
                    lost = situation.events - min(run.distinct for run in self.of(situation, client))
                    text = form.format(value(cost)) + (f", {lost:,} lost" if lost else "")
                    # Who leaves most of the events out is quick, and no measure for the others.
                    made.append((lost > situation.events // 2, Bar(client.partition(":")[0], value(cost), text, kind)))
            return [bar for _, bar in sorted(made, key=lambda each: (each[0], each[1].value))]

        panels = [
            (f"CPU seconds for {situation}", bars(lambda cost: cost.cpu, "{:.1f} s")),
            ("Peak memory", bars(lambda cost: cost.memory, "{:.0f} MiB")),
        ]
        return chart(panels, NOTES)


def loaded() -> tuple[list[Run], list[str], list[str]]:
    """Return the figures of the last run."""
    kept: dict[str, Any] = json.loads((ROOM / "extract.json").read_text(encoding="utf-8"))
    runs = [
        Run(**{**run, "situation": Situation(**run["situation"]), "cost": Cost(**run["cost"]) if run["cost"] else None})
        for run in kept["runs"]
    ]
    order = {situation: number for number, situation in enumerate(FULL)}
    runs.sort(key=lambda run: order.get(run.situation, len(order)))
    return runs, kept["missing"], kept["versions"]
