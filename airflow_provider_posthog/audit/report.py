"""A certificate as one page that a data-protection officer can read, print and keep: HTML that needs nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.audit.claims import claim
from airflow_provider_posthog.audit.deadline import Deadline, today
from airflow_provider_posthog.audit.extract import hidden_events
from airflow_provider_posthog.audit.pseudonyms import SHORT
from airflow_provider_posthog.audit.records import AuditRecord
from airflow_provider_posthog.audit.timeline import Mark, text, timeline
from airflow_provider_posthog.audit.verify import Story, Verdict

#: How many persons and records are listed one by one.
MAX_ROWS = 200

_STATES = {
    "REQUESTED": "The deletion was asked for; nothing is proved yet.",
    "PROFILE_GONE": "The profile is gone; the events were not counted yet.",
    "EVENTS_PENDING": "The profile is gone; PostHog still has events, which it deletes in batches, days later.",
    "VERIFIED": "Nothing of what was to be erased can be read any more.",
    "SURVIVORS": "PostHog says that it is done, but events are still readable.",
    "SWALLOWED": "PostHog accepted the request and queued nothing, as it had one for this person before.",
    "RECREATED": "The person came back: new events arrived after the deletion.",
    "NOT_FOUND": "PostHog knew no such person; nothing was erased.",
    "PARTIAL": "PostHog deleted a part only.",
    "not told": "The records do not say what became of them.",
}
_COUNTS = {
    "profiles": "Profiles",
    "distinct_ids": "Distinct ids",
    "others": "Distinct ids that nobody asked for, merged into the same persons: they went along",
    "events": "Events",
    "newest_event": "Newest event",
    "future_events": "Events dated in the future",
    "later_events": "Events after the request",
    "recordings": "Recordings",
}
_RESIDUE = {
    "exports": ("Exports made earlier", "Files that were downloaded stay where they are. PostHog's own copies expire."),
    "batch_exports": ("Batch exports", "What was loaded into these destinations has to be erased there."),
    "static_cohorts": ("Static cohorts", "A list of members does not follow the deletion of a person."),
    "group_types": ("Groups", "PostHog deletes no groups; a group's key may name a person."),
    "tables": (
        "Tables that its deletion leaves alone",
        "PostHog's deletion of a person does not reach these rows; they go when their own retention ends. Where a "
        "table is not offered, nobody could look.",
    ),
}
_RECIPIENTS = {
    "hog_functions": (
        "Destinations and webhooks",
        "They have sent events on as these came; deleted ones are not shown.",
    ),
    "subscriptions": ("Subscriptions", "They send pictures and tables of insights to people and channels."),
    "warehouse_sources": ("Warehouse sources", "PostHog imports from there: erase there, or the data comes back."),
    "elt_destinations": ("ELT destinations", "Imported tables are written to these databases."),
    "managed_warehouse": (
        "Managed warehouse",
        "A copy of events and persons; that PostHog's deletion reaches it is not known.",
    ),
}
_CHECKED_BY = {
    "signed": "Whoever lacks the private key cannot have written or changed them.",
    "sealed": "Whoever lacks the salt cannot have written or changed them; whoever holds it could.",
    "": "That they fit together says nothing of who wrote them.",
}
#: What the generations of servers are in words that say something to whoever signs.
_GENERATIONS: Mapping[str, str] = {
    "A": "as PostHog until December 2025: the profile with the answer, recordings not at all (A)",
    "B": "as PostHog from December 2025 to September 2026: the profile with the answer (B)",
    "C": "as PostHog since September 2026: the profile some minutes after the answer (C)",
}
#: What kinds of records are, in words that say something to whoever signs.
_KINDS: Mapping[str, str] = {
    "requested": "request begun",
    "dry_run": "dry run",
    "accepted": "deletion accepted by PostHog",
    "state_changed": "looked, and found news",
    "verified": "proved",
    "residue": "what PostHog cannot erase",
    "exported": "data exported",
}
#: What a column holds that reads badly in two lines: a moment, and a number.
_IN_ONE_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+|[\d,]+")
#: Ends of requests that were not to erase anything, each in a word and a sentence.
_ENDED: Mapping[object, tuple[str, str]] = {
    "DRY_RUN": ("DRY RUN", "Nothing was erased: this shows what would have been done."),
    "EXPORTED": ("DATA EXPORTED", "A copy of the person's data was made, and counted. Nothing was to be erased."),
}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1b1b1b;max-width:900px;margin:24px auto;padding:0 16px}
h1{font-size:21px;margin:0 0 12px}h2{font-size:16px;margin:22px 0 6px}p,ul{margin:6px 0}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:left;vertical-align:top;padding:3px 10px 3px 0;border-bottom:1px solid #ddd;overflow-wrap:break-word}
th,.one{white-space:nowrap}code{font-size:12px}.verdict{border:2px solid;border-radius:6px;padding:10px 14px}
.verdict strong{font-size:24px;letter-spacing:.03em}.good{color:#1a7f37}.bad{color:#b42318}.neutral{color:#4a4a4a}
.verdict ul,.verdict p{color:#1b1b1b}.small{color:#555;font-size:12px}
@media print{body{margin:0;max-width:none;font-size:11pt}tr,svg,.verdict{break-inside:avoid}h2{break-after:avoid}}
"""


def report(verdict: Verdict) -> str:
    """Return the page: HTML in UTF-8, which is well-formed XML, too.

    :param verdict: the result of checking the certificate
        (:func:`airflow_provider_posthog.audit.verify.verify_folder`).
    """
    parts = [
        _headline(verdict),
        _request(verdict),
        _states(verdict),
        _counts(verdict),
        _section("What happened when", timeline(_marks(verdict))),
        _persons(verdict),
        _residue(verdict),
        _records(verdict),
        _checking(verdict),
    ]
    title = text(f"Erasure {verdict.request_id}: {_word(verdict)[0]}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def summary(verdict: Verdict) -> str:
    """Return the same in a few lines of plain text.

    :param verdict: the result of checking the certificate.
    """
    word, why, look = _word(verdict)
    ticket = verdict.story.records[0].who.get("ticket") if verdict.story.records else None
    request = f"{verdict.request_id or 'unknown'}{f' (ticket {ticket})' if ticket else ''}"
    lines = [f"{verdict.source}", f"  request: {request}"]
    lines += [f"  {line}" for line in _time(verdict)]
    lines += [f"  left on purpose: {left}" for left in verdict.story.left]
    lines.append(f"  certificate: {_soundness(verdict)}; {len(verdict.story.records)} records; {_origin(verdict)}")
    lines += [f"    - {problem}" for problem in verdict.problems[:MAX_ROWS]]
    lines.append(f"  erasure: {word}. {why}")
    lines += [f"    - {doubt}" for doubt in ([] if look == "good" else verdict.doubts)]
    lines += [f"  {line}" for line in _ending(verdict)]
    if verdict.story.not_found:
        lines.append(f"  identifiers that matched no person: {verdict.story.not_found}")
    lines += [f"  note: {note}" for note in [*filter(None, [_hidden(verdict)]), *verdict.notes]]
    return "\n".join(lines)


def _soundness(verdict: Verdict) -> str:
    """Describe the state of the records; without a checked origin only that they are consistent."""
    if verdict.state == "damaged":
        return "ALTERED OR INCOMPLETE"
    if not verdict.origin_checked:
        return "internally consistent" if verdict.state == "closed" else "open, and internally consistent so far"
    return "complete and unaltered" if verdict.state == "closed" else "open, and unaltered so far"


def _origin(verdict: Verdict) -> str:
    checked = [name for name, was in (("seals", verdict.sealed), ("signatures", verdict.signed)) if was]
    if not checked:
        return "origin not checked (no salt and no public key given)"
    return f"{' and '.join(checked)} checked"


def _word(verdict: Verdict) -> tuple[str, str, str]:
    story = verdict.story
    if verdict.state == "closed" and not verdict.shortcomings:
        if not verdict.origin_checked:
            why = "The records tell of an erasure, and fit together; but without the salt or the public key "
            return "ORIGIN NOT CHECKED", f"{why}anybody could have written them.", "neutral"
        what = claim(len(story.states), story.last("after") or {}, story.options)
        return ("VERIFIED, BUT NOT ALL WAS ERASED" if story.left else "VERIFIED"), what, "good"
    closing = story.closing
    ended = _ENDED.get(closing.facts.get("outcome")) if verdict.is_intact and closing is not None else None
    if ended is not None:
        return *ended, "neutral"
    return "NOT VERIFIED", "This does not prove that everybody was erased.", "bad"


def _time(verdict: Verdict) -> list[str]:
    """Return warnings that a request is due soon or over, or was closed too late."""
    deadline, closing = Deadline.from_facts(verdict.story.last("deadline")), verdict.story.closing
    if deadline is None:
        return []
    if closing is None:
        return [warning for warning in [deadline.warning(today())] if warning]
    over = -deadline.days_left(today(moment(closing.at)))
    return [f"It was closed {over} days after it was due ({deadline.due})."] if over > 0 else []


def _ending(verdict: Verdict) -> list[str]:
    """Return why and by whose decision a request was ended without proof."""
    facts = verdict.story.closing.facts if verdict.story.closing else {}
    labels = [("reason", "Ended without proof, because: "), ("decision", "Decision: ")]
    return [f"{says}{facts[name]}" for name, says in labels if name in facts]


def _headline(verdict: Verdict) -> str:
    word, why, look = _word(verdict)
    doubts = verdict.doubts if look == "bad" else []
    left = _list(f"Left on purpose: {clause}." for clause in verdict.story.left)
    lost = verdict.story.not_found
    what, whom = ("identifier", "it") if lost == 1 else ("identifiers", "them")
    more = f"<p>{lost:,} {what} matched no person: nothing was erased for {whom}.</p>" if lost else ""
    more += "".join(f"<p>{text(line)}</p>" for line in [*_ending(verdict), *_time(verdict)])
    return (
        "<h1>Certificate of an erasure in PostHog</h1>"
        f'<div class="verdict {look}"><strong>{word}</strong>{left}<p>{text(why)}</p>{_list(doubts)}{more}</div>'
    )


def _request(verdict: Verdict) -> str:
    story = verdict.story
    if not story.records:
        return ""
    first, server = story.records[0], story.last("server") or {}
    who = first.who
    deadline = Deadline.from_facts(story.last("deadline"))
    rows: list[tuple[str, object]] = [
        ("Request", verdict.request_id),
        ("Ticket", who.get("ticket") or "none"),
        ("Asked for by", f"DAG {who.get('dag_id')}, run {who.get('run_id')}, task {who.get('task_id')}"),
        *_noted(story, "Approved", "approved"),
        *_noted(story, "Erased outside PostHog", "erased"),
        ("Deadline", deadline.text() if deadline else "not told"),
        ("First and last record", f"{first.at} and {story.records[-1].at}"),
        ("PostHog", f"{server.get('host', 'not told')}, project {server.get('project_id', 'not told')}"),
        ("How this PostHog deletes", _generation(verdict)),
        ("Identifiers", f"{story.identifiers:,} (kept as HMAC-SHA256 only)"),
        ("Persons", f"{len(story.states):,} (kept as HMAC-SHA256 of the UUID only)"),
        ("Options", _pairs(story.options)),
        ("Calls made", _pairs(story.calls)),
    ]
    return _section("The request", _table(rows))


def _noted(story: Story, title: str, word: str) -> Iterator[tuple[str, object]]:
    """Yield the notes of the records that begin with a word: they belong at the top of the page."""
    for record in story.records:
        for note in record.facts.get("notes", ()):
            if str(note).startswith(f"{word} "):
                yield title, str(note).removeprefix(f"{word} ")


def _generation(verdict: Verdict) -> str:
    """Describe how the server deletes persons, if the record has it."""
    generations = [(record.facts.get("server") or {}).get("generation") for record in verdict.story.records]
    generation = next((generation for generation in reversed(generations) if generation), None)
    return _GENERATIONS.get(str(generation), "not told")


def _states(verdict: Verdict) -> str:
    counted = Counter(state or "not told" for state in verdict.story.states.values())
    rows = [(state, f"{count:,}", _STATES.get(state, "")) for state, count in sorted(counted.items())]
    title = "Persons by state" if verdict.origin_checked else "Persons by state, as whoever wrote the records says"
    return _section(title, _table(rows, "State", "Persons", "What that means"))


def _counts(verdict: Verdict) -> str:
    before, after = verdict.story.first("before") or {}, verdict.story.last("after") or {}
    names = [name for name in _COUNTS if name in before or name in after]
    # What is proved to be gone as a whole has no count of its own afterwards.
    gone = "none can be read" if verdict.proves_erasure and not verdict.story.left else "not counted"
    counted = [(_COUNTS[name], before, after, name) for name in names]
    rows = [(says, _shown(was, name, "not counted"), _shown(now, name, gone)) for says, was, now, name in counted]
    hidden = _hidden(verdict)
    note = f"<p>{text(hidden)}</p>" if hidden else ""
    return _section("Counted before and after", _table(rows, "What", "Before", "After"), note)


def _hidden(verdict: Verdict) -> str:
    return hidden_events(verdict.story.last("retention") or {})


def _persons(verdict: Verdict) -> str:
    story = verdict.story
    listed = {name: state for name, state in story.states.items() if state != "VERIFIED" or name in story.survivors}
    title = "Persons that are not proved to be erased"
    if not listed and len(story.states) <= MAX_ROWS:
        title, listed = "Persons", story.states
    rows = [
        (name[:SHORT], state or "not told", f"{story.survivors.get(name, 0):,}")
        for name, state in sorted(listed.items())[:MAX_ROWS]
    ]
    more = len(listed) - len(rows)
    rest = f'<p class="small">and {more:,} more, who are in the records</p>' if more > 0 else ""
    return _section(title, _table(rows, "Person (HMAC of the UUID)", "State", "Events left"), rest)


def _residue(verdict: Verdict) -> str:
    residue = verdict.story.last("cannot_erase")
    if not isinstance(residue, Mapping):
        return _section("What PostHog cannot erase", "<p>It was not looked for.</p>")
    never = (
        "<p>Never reached either: backups, files that somebody downloaded, and names in texts such as notebooks "
        "and comments. Exports are those of this API key's user.</p>"
    )
    note = "<p>That a recipient was told stands here only if somebody has noted it: see the records.</p>"
    return _section("What PostHog cannot erase", *_listed(residue, _RESIDUE), never) + _section(
        "Recipients: who may have received the data", *_listed(residue, _RECIPIENTS), note
    )


def _listed(rows: Mapping[str, Any], titles: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name, (title, meaning) in titles.items():
        items, reason = rows.get(name), (rows.get("not_looked_at") or {}).get(name)
        listed = _list(_pairs(item) for item in items[:MAX_ROWS]) if items else ""
        count = "not looked at" if items is None else f"{len(items):,}"
        note = f" ({text(reason)})" if reason else ""
        yield f"<p><b>{text(title)}: {count}</b>{note}. {text(meaning)}</p>{listed}"


def _records(verdict: Verdict) -> str:
    records = verdict.story.records
    rows = [_row(record) for record in records[:MAX_ROWS]]
    columns = ("No.", "Time", "What", "Task", "Persons", "Notes", "Hash")
    more = len(records) - len(rows)
    rest = f'<p class="small">and {more:,} more records</p>' if more > 0 else ""
    return _section("The records", _table(rows, *columns), rest)


def _row(record: AuditRecord) -> tuple[object, ...]:
    facts, who = record.facts, record.who
    notes = [*facts.get("notes", ()), *([facts["error"]] if "error" in facts else ())]
    task = f"{who.get('task_id')}, try {who.get('try_number')}"
    what = _KINDS.get(record.kind, record.kind)
    recipients = facts.get("person_count") or ""
    when = record.at + (f" (PostHog's clock: {record.server_at})" if record.server_at else "")
    return (record.sequence, when, what, task, recipients, "; ".join(notes), record.hash[:16])


def _checking(verdict: Verdict) -> str:
    story, closing = verdict.story, verdict.story.closing
    key = story.records[0].key_id if story.records else None
    parts = [
        f"<p>The records are {_soundness(verdict)}; {_origin(verdict)}.</p>",
        f"<p>{_CHECKED_BY['signed' if verdict.signed else 'sealed' if verdict.sealed else '']}</p>",
        f"<p>Signed with the key <code>{text(key)}</code>.</p>" if key else "",
        _list(str(problem) for problem in verdict.problems[:MAX_ROWS]),
        f"<p>Closing record: <code>{text(closing.hash)}</code></p>" if closing else "",
        f"<p>Check it again: <code>python -m airflow_provider_posthog.audit verify {text(verdict.source)}</code></p>",
        _list(verdict.notes),
    ]
    return _section("Is this certificate itself sound?", *parts)


def _marks(verdict: Verdict) -> list[Mark]:
    return [
        Mark(record.at, record.kind, record.kind != "closed" or verdict.proves_erasure)
        for record in verdict.story.records
    ]


def _shown(counts: Mapping[str, Any], name: str, without: str) -> str:
    return _value(counts[name]) if name in counts else without


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_plain(name, values[name])}" for name in sorted(values)) or "not told"


def _plain(name: str, value: object) -> str:
    return str(value) if name == "id" else _value(value)


def _section(title: str, *parts: str) -> str:
    body = "".join(parts)
    return f"<h2>{text(title)}</h2>{body}" if body else ""


def _list(items: Iterable[object]) -> str:
    rows = "".join(f"<li>{text(item)}</li>" for item in items)
    return f"<ul>{rows}</ul>" if rows else ""


def _table(rows: Iterable[tuple[object, ...]], *columns: str) -> str:
    head = f"<tr>{''.join(f'<th>{text(column)}</th>' for column in columns)}</tr>" if columns else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>{head}{body}</table>" if body else ""


def _cell(value: object) -> str:
    shown = text(value)
    return f'<td class="one">{shown}</td>' if _IN_ONE_LINE.fullmatch(shown) else f"<td>{shown}</td>"
