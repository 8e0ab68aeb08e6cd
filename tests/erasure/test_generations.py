"""An adversary for each generation of servers: green only if another client finds nothing of the person.

Each case leaves something of a person, or something that looks like it, in another place. An erasure may end red, and
it may wait; what it may not do is to call it proved while another client can still read something, or to touch a
stranger.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.settings import GENERATIONS, Settings
from airflow_provider_posthog.exceptions import PostHogError
from tests.erasure.support import DAY, HOUR, Lab, ago
from tests.support.ages import SERVERS

pytestmark = pytest.mark.reliability

PERSONLESS = {"$process_person_profile": False}
Case = Callable[[Lab], None]


def _nothing_more(lab: Lab) -> None:
    pass


def _events_under_the_address(lab: Lab) -> None:
    lab.names.append(lab.email)
    lab.event(lab.email, properties=PERSONLESS)


def _events_under_the_address_in_capitals(lab: Lab) -> None:
    lab.names.append(lab.email.upper())
    lab.event(lab.email.upper(), properties=PERSONLESS)


def _a_second_person_with_the_address(lab: Lab) -> None:
    lab.names.append(f"{lab.name}-twin")
    lab.add(f"{lab.name}-twin", properties={"Email": f" {lab.email.upper()} "})
    lab.event(f"{lab.name}-twin")


def _an_old_uuid_on_events(lab: Lab) -> None:
    lab.old_event(str(uuid.uuid4()), lab.name)


def _an_event_of_the_uuid_under_an_unknown_id(lab: Lab) -> None:
    lab.names.append(f"{lab.name}-anonymous")
    lab.old_event(lab.person, f"{lab.name}-anonymous")


def _an_event_of_the_future(lab: Lab) -> None:
    lab.event(timestamp="2100-01-01T00:00:00Z")


def _an_event_of_years_ago(lab: Lab) -> None:
    lab.event(timestamp=ago(days=900), created_at=ago(days=900))


def _an_event_that_is_hidden_by_now(lab: Lab) -> None:
    """Older than what PostHog shows today; servers before 2026 show it."""
    lab.event(timestamp=ago(days=3000), created_at=ago(days=3000))


def _an_odd_address(lab: Lab) -> None:
    odd = f'o"neil\\ö-{lab.email}'
    lab.names.append(f"{lab.name}-odd")
    lab.asked = {"emails": [lab.email, odd.upper()]}
    lab.add(f"{lab.name}-odd", properties={"email": odd})
    lab.event(f"{lab.name}-odd")


def _an_evaluation_of_a_flag(lab: Lab) -> None:
    row = {"distinct_id": lab.name, "person_id": lab.person, "timestamp": ago(hours=1), "created_at": ago(hours=1)}
    lab.posthog.add_rows("flag_evaluations", [row])


CASES: Mapping[str, Case] = {
    name.removeprefix("_").replace("_", " "): case
    for name, case in list(globals().items())
    if name.startswith("_") and callable(case) and getattr(case, "__module__", "") == __name__
}


class Stranger:
    """Somebody who looks alike, and of whom everything stays."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.name = f"{lab.name}-stranger"
        self.email = f"not-{lab.email}"
        (self.person,) = lab.posthog.add_persons([{"distinct_ids": [self.name], "properties": {"email": self.email}}])
        for _ in range(3):
            lab.event(self.name)
        lab.event(self.email, properties=PERSONLESS)

    def there(self) -> tuple[int, int, int]:
        raw = self.lab.raw
        counted = [
            int(raw.query("select count() from events where distinct_id = {v}", v=name).json()["results"][0][0])
            for name in (self.name, self.email)
        ]
        return raw.get(f"persons/{self.person}/").status_code, counted[0], counted[1]


def of_flags(lab: Lab) -> int:
    answer = lab.raw.query("select count() from flag_evaluations where distinct_id = {v}", v=lab.name)
    return int(answer.json()["results"][0][0]) if answer.status_code == 200 else 0


def test_every_generation_is_among_the_servers_also_the_one_that_the_emulator_is_by_default(
    tidied: EmulatorProcess,
) -> None:
    assert {str(each["generation"]) for each in SERVERS.values()} == set(GENERATIONS)
    assert Settings().generation == SERVERS["today"]["generation"]
    assert tidied.settings()["generation"] == Settings().generation


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("case", CASES)
def test_green_means_that_nothing_of_the_person_can_be_read(lab: Lab, case: str, server: str) -> None:
    lab.posthog.settings(**SERVERS[server])
    CASES[case](lab)
    stranger = Stranger(lab)
    if server == "today":
        lab.posthog.advance(HOUR)  # lists and queries lag
    try:
        lab.delete()
    except PostHogError:
        assert stranger.there() == (200, 3, 1)
        raise
    lab.posthog.advance(HOUR)
    first = lab.sensor(keep_work_file=True, poke_interval=60.0).look({})
    assert first.verdict.state != "succeeded", "one look proves nothing"
    for _ in range(3):
        lab.posthog.advance(8 * DAY)
        state = lab.look()
        if state == "VERIFIED" or state not in ("REQUESTED", "PROFILE_GONE", "EVENTS_PENDING"):
            break
    left = [*lab.readable(), *["evaluation"] * of_flags(lab)]
    assert (state == "VERIFIED") == (left == []), (state, left)
    assert stranger.there() == (200, 3, 1)


@pytest.mark.parametrize("server", SERVERS)
def test_what_only_the_whole_history_shows_is_not_missed(lab: Lab, server: str) -> None:
    """After the first look something comes that no look along the key can see."""
    lab.posthog.settings(**SERVERS[server])
    lab.delete()
    lab.posthog.advance(HOUR)
    lab.look()
    lab.posthog.advance(8 * DAY)
    lab.old_event(lab.person, f"{lab.name}-late")
    assert lab.look() != "VERIFIED"
