"""Judge what can be read of one person: one of a few states, with a reason that a data-protection officer can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.erasure.counts import NONE, Events
from airflow_provider_posthog.erasure.delete import SKEW, DeleteOptions
from airflow_provider_posthog.erasure.work_file import Person

State = Literal[
    "REQUESTED",
    "PROFILE_GONE",
    "EVENTS_PENDING",
    "VERIFIED",
    "SURVIVORS",
    "SWALLOWED",
    "RECREATED",
    "NOT_FOUND",
    "PARTIAL",
]
#: States that PostHog may still change by itself.
PENDING: frozenset[State] = frozenset({"REQUESTED", "PROFILE_GONE", "EVENTS_PENDING"})

#: PostHog deletes queued profiles within minutes, tries for half an hour, and then gives up silently.
PROFILE_PATIENCE = timedelta(hours=6)
#: Recordings are deleted by a workflow with two attempts, which no list shows.
RECORDINGS_PATIENCE = timedelta(days=2)
#: Events take a while from a device to where they are counted: there must be none for this long.
QUIET_PERIOD = timedelta(hours=1)
#: A deletion that PostHog calls complete reaches all of its replicas a little later.
SETTLING = timedelta(hours=1)


@dataclass(frozen=True)
class Request:
    """The deletion request, as far as it is known.

    :param options: what was to be deleted.
    :param generation: of the server.
    :param requested_at: the server's time before the first call.
    :param accepted_at: the server's time after the last one: events up to it must be gone.
    :param proven: whether it is known that the persons existed, so that nobody there means that they are gone.
    :param quiet_period: how long after the last call no event may arrive: events in transit are counted late.
    """

    options: DeleteOptions
    generation: str
    requested_at: datetime
    accepted_at: datetime
    proven: bool = True
    quiet_period: timedelta = QUIET_PERIOD


@dataclass(frozen=True)
class Remains:
    """What can be read of a person now.

    :param now: the server's time.
    :param profile: the profile in PostHog's database, by UUID or by one of the distinct ids.
    :param listed: whether lists and queries still show the profile.
    :param events: the events.
    :param recordings: how many recordings.
    :param deletion: the newest queued deletion of the events; ``None`` if there is none.
    :param deletions_known: whether it was looked up.
    """

    now: datetime
    profile: Mapping[str, Any] | None = None
    listed: bool = False
    events: Events = NONE
    recordings: int = 0
    deletion: Mapping[str, Any] | None = None
    deletions_known: bool = False


@dataclass(frozen=True)
class Judgement:
    """The state of one person.

    :param uuid: the person's.
    :param state: the state.
    :param reason: why, without personal data; empty for ``VERIFIED``.
    :param survivors: how many events can be read.
    :param facts: counts and times, for a report.
    """

    uuid: str
    state: State
    reason: str = ""
    survivors: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def judge(person: Person, remains: Remains, request: Request) -> Judgement:
    """Return the state of a person.

    :param person: the person, as resolved before the deletion.
    :param remains: what can be read now.
    :param request: what was asked for.
    """
    state, reason = _state(person, remains, request)
    status = (remains.deletion or {}).get("status")
    facts = {
        "profile_in_database": remains.profile is not None,
        "profile_in_lists": remains.listed,
        "events": remains.events.before,
        "future_events": remains.events.future,
        "later_events": remains.events.later,
        "recordings": remains.recordings,
        "deletion_status": str(status) if status else ("none" if remains.deletions_known else None),
    }
    return Judgement(person.uuid, state, reason, remains.events.all, facts)


def _state(person: Person, remains: Remains, request: Request) -> tuple[State, str]:
    for look in (_recreated, _profile, _events, _recordings):
        looked = look(person, remains, request)
        if looked is not None:
            return looked
    if not request.proven and remains.deletion is None:
        return "NOT_FOUND", (
            "PostHog has nothing of this UUID, and no sign that it ever had; pass the result of "
            "PostHogDeletePersonsOperator"
        )
    # Of UUIDs alone it is only known when the deletion was queued.
    since = request.accepted_at if request.proven else moment((remains.deletion or {}).get("created_at"))
    if request.quiet_period and since is not None and remains.now - since < request.quiet_period:
        state: State = "EVENTS_PENDING" if request.options.keep_person else "PROFILE_GONE"
        return state, "nothing can be read, but events in transit at the time of the request may still arrive"
    return "VERIFIED", ""


def _recreated(person: Person, remains: Remains, request: Request) -> tuple[State, str] | None:
    if request.options.keep_person:
        return None
    created = moment((remains.profile or {}).get("created_at"))
    if created is not None and created > request.accepted_at:
        return "RECREATED", f"the profile was made again at {created.isoformat()}: stop the source of the events"
    if remains.profile is not None and str(remains.profile.get("uuid")).lower() != person.uuid:
        return "RECREATED", "one of the distinct ids belongs to another person now"
    # The oldest servers do not tell of a profile that came back: its events do, also where they may stay.
    if remains.events.later and (request.options.events or request.generation == "A"):
        return "RECREATED", (
            f"{remains.events.later} events came after the request: stop their source; this deletion does not cover "
            "them"
        )
    return None


def _profile(person: Person, remains: Remains, request: Request) -> tuple[State, str] | None:
    if request.options.keep_person:
        return _kept(person, remains, request)
    if remains.profile is None and not remains.listed:
        return None
    where = " and ".join(
        name for name, there in (("database", remains.profile is not None), ("lists", remains.listed)) if there
    )
    reason = f"the profile is still in PostHog's {where}"
    if remains.now - request.accepted_at > PROFILE_PATIENCE:
        return "PARTIAL", f"{reason}: PostHog has given up deleting it without reporting that"
    return "REQUESTED", reason


def _kept(person: Person, remains: Remains, request: Request) -> tuple[State, str] | None:
    """Check that a profile that PostHog was asked to keep is still there."""
    if not person.profile or not request.proven:
        return None
    if remains.profile is None or str(remains.profile.get("uuid")).lower() != person.uuid:
        return "PARTIAL", "the profile was to be kept, and is gone: PostHog has deleted it all the same"
    created = moment(remains.profile.get("created_at"))
    if created is not None and created > request.accepted_at:
        return "PARTIAL", "the profile was to be kept, and was deleted and made again"
    return None


def _events(person: Person, remains: Remains, request: Request) -> tuple[State, str] | None:
    events = remains.events
    if not request.options.events or not (events.before or events.future):
        return None
    if not person.profile:
        return "SURVIVORS", (
            f"{events.all} events of a distinct id without a profile: PostHog can only be asked to delete persons; ask "
            "its support"
        )
    if events.future:
        return "SURVIVORS", f"{events.future} events are dated after the request, which PostHog's deletion leaves alone"
    if not remains.deletions_known:
        return "EVENTS_PENDING", f"{events.before} events can still be read"
    if remains.deletion is None:
        return "SWALLOWED", f"{events.before} events can be read, and PostHog has never queued their deletion"
    return _queued(events, remains.deletion, remains.now, request)


def _queued(events: Events, deletion: Mapping[str, Any], now: datetime, request: Request) -> tuple[State, str]:
    """Judge events whose deletion is in PostHog's list, which covers those up to the moment it was queued."""
    queued, verified = moment(deletion.get("created_at")), moment(deletion.get("delete_verified_at"))
    older = queued is not None and queued < request.requested_at - SKEW
    asked = f"{events.before} events can be read; PostHog queued their deletion on {deletion.get('created_at')}"
    if older and queued is not None and events.newest_before is not None and events.newest_before > queued:
        return "SWALLOWED", f"{asked}, before this request, and newer ones are not covered; ask its support"
    completed = deletion.get("status") == "completed"
    if not completed or (verified is not None and now - verified < SETTLING):
        return "EVENTS_PENDING", asked
    if older:
        return "SWALLOWED", f"{asked}, before this request, and calls it complete; ask its support"
    return "SURVIVORS", f"{asked} and calls it complete; ask its support"


def _recordings(person: Person, remains: Remains, request: Request) -> tuple[State, str] | None:
    if not request.options.recordings or not remains.recordings:
        return None
    reason = f"{remains.recordings} session recordings can still be read"
    if remains.now - request.accepted_at > RECORDINGS_PATIENCE:
        return "PARTIAL", f"{reason}: PostHog has given up deleting them without reporting that"
    return "PROFILE_GONE", reason
