"""Send what was once sent to a PostHog server of October 2024, and compare the answers with what it answered.

A comparison is a list of differences; an empty one means "the same but for the values". Compared are the status, the
headers that clients read, and the shape of the body: which keys, of which JSON types, links with the same path and
parameters, and the exact words of an error. Differences that are meant are in :mod:`tests.contract.accepted`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import requests

from tests.contract.accepted import ACCEPTED

HERE = Path(__file__).parent
HEADERS = ("Content-Type", "Allow", "Cache-Control", "Content-Disposition")
# objects whose keys are the user's own: that they are objects is all there is to compare
FREE = {"properties", "group_properties", "person_properties", "attributes", "filters", "query", "modifiers"}
FREE |= {"test_account_filters", "correlation_config", "export_context", "changes", "trigger", "timings"}
LINKS = frozenset({"next", "previous"})
IDS = frozenset({"id", "uuid", "short_id", "cache_key"})


@dataclass(frozen=True)
class Recording:
    """One request of the recorded server's client and its answer.

    :param case: its name; for a step of a flow, ``flow.step``.
    :param key: ``bearer`` for a key that may do everything, ``key_ro`` and ``key_scoped_team`` for lesser ones, None
        for a request without the header.
    :param body: JSON, or the text of another answer.
    """

    case: str
    method: str
    path: str
    key: str | None
    request: Any
    status: int
    headers: Mapping[str, str]
    body: Any


def _read(name: str) -> dict[str, Recording]:
    found = json.loads((HERE / name).read_text(encoding="utf-8"))
    return {case: Recording(case, **parts) for case, parts in found.items()}


RECORDINGS = _read("posthog_2024_10.json")
FLOWS: dict[str, list[Recording]] = {}
for _step in _read("posthog_2024_10_flows.json").values():
    FLOWS.setdefault(_step.case.rpartition(".")[0], []).append(_step)


def cases(*patterns: str) -> list[str]:
    """Return the names of the recordings that fit one of the patterns, in the order of recording.

    :param patterns: such as ``persons.*``.
    """
    return [case for case in RECORDINGS if any(fnmatchcase(case, each) for each in patterns)]


@dataclass
class Replay:
    """Sends recordings to a server whose objects have other ids than those of the recorded server.

    :param url: of the server.
    :param keys: the personal API keys by the names that recordings have for them.
    :param ids: ids of the recorded server -> ids here, either a text that is unique (a uuid) or the collection and
        the id: ``("insights", "9")``.
    """

    url: str
    keys: Mapping[str, str]
    ids: dict[str | tuple[str, str], str] = field(default_factory=dict)

    def send(self, recording: Recording, *, request: object = None, path: str | None = None) -> requests.Response:
        """Send a recorded request, with the ids of this server.

        :param recording: what to send.
        :param request: another body than the recorded one.
        :param path: another path than the recorded one, with its query.
        """
        session = requests.Session()
        session.trust_env = False
        if recording.key is not None:
            session.headers["Authorization"] = f"Bearer {self.keys[recording.key]}"
        body = recording.request if request is None else request
        sent = None if body is None else self._body(body)
        address = self.url + (self.path(recording.path) if path is None else path)
        return session.request(recording.method, address, json=sent, timeout=30, allow_redirects=False)

    def path(self, path: str) -> str:
        """Return a recorded path with the ids of this server.

        :param path: with its query; the whole address is fine.
        """
        parts = urlsplit(path)
        names = parts.path.split("/")
        for place in range(1, len(names)):
            found = self.ids.get((names[place - 1], names[place]), self.ids.get(names[place]))
            names[place] = quote(found, safe="") if found is not None else names[place]
        values = [(name, self.ids.get(value, value)) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
        return "/".join(names) + (f"?{urlencode(values)}" if values else "")

    def _body(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._body(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self._body(each, name) for each in value]
        if name == "personal_api_key":
            return self.keys["bearer"]
        if isinstance(value, str):
            return self.ids.get(value, value)
        found = self.ids.get((f"{name}s", str(value))) if name in ("insight", "dashboard") else None
        return value if found is None else int(found)

    def learn(self, recording: Recording, answer: requests.Response) -> None:
        """Remember which id here stands for which id of the recorded server, for the steps of a flow that follow.

        :param recording: a request that made or returned one object.
        :param answer: what was answered to it here.
        """
        if not isinstance(recording.body, dict) or not answer.ok or not answer.content:
            return
        collection = urlsplit(recording.path).path.strip("/").split("/")[3:4]
        self._learn(collection[0] if collection else "", recording.body, answer.json())

    def _learn(self, collection: str, wanted: Mapping[str, Any], found: object) -> None:
        if not isinstance(found, dict):
            return
        for name, value in wanted.items():
            if name in IDS and isinstance(value, (str, int)) and found.get(name) is not None:
                # small numbers are ids of one collection, texts are unique on the whole server
                self.ids[value if isinstance(value, str) else (collection, str(value))] = str(found[name])
            elif isinstance(value, dict) and name in ("query_status", "export_context"):
                self._learn(collection, value, found.get(name))

    def check(self, recording: Recording, answer: requests.Response) -> None:
        """Fail when an answer differs from the recorded one in a way that is not accepted.

        :param recording: what was recorded.
        :param answer: what was answered here.
        """
        unexpected = [each for each in self.differences(recording, answer) if not is_accepted(recording.case, each)]
        assert not unexpected, "\n".join([f"{recording.case}: {recording.method} {recording.path}", *unexpected])

    def differences(self, recording: Recording, answer: requests.Response) -> list[str]:
        """Return how an answer differs from the recorded one.

        :param recording: what was recorded.
        :param answer: what was answered here.
        """
        found = [] if answer.status_code == recording.status else [f"status: {answer.status_code}"]
        found += list(_headers(recording.headers, answer.headers))
        if isinstance(recording.body, str):
            return found + ([] if bool(recording.body) == bool(answer.content) else ["body: empty on one side only"])
        try:
            body = answer.json()
        except ValueError:
            return [*found, f"body: no JSON but {answer.text[:80]!r}"]
        if recording.status >= 400:
            return found + list(self._error(recording.body, body))
        return found + sorted(set(self._shape(recording.body, body, "body", "")))

    def _error(self, wanted: Mapping[str, Any], found: object) -> Iterator[str]:
        if not isinstance(found, dict) or set(wanted) != set(found):
            yield f"body: {found!r}"
            return
        for name in wanted:
            if not _same_words(name, wanted, found):
                yield f"body.{name}: {found[name]!r} instead of {wanted[name]!r}"

    def _shape(self, wanted: object, found: object, path: str, name: str) -> Iterator[str]:
        if name in LINKS:
            yield from self._link(wanted, found, path)
        elif wanted is None or (found is None and name in NULLABLE):
            # what type the value has when there is one was not recorded here
            return
        elif _kind(wanted) != _kind(found):
            yield f"{path}: {_kind(found)} instead of {_kind(wanted)}"
        elif name in FREE:
            return
        elif isinstance(wanted, dict) and isinstance(found, dict):
            yield from self._keys([wanted], [found], path)
        elif isinstance(wanted, list) and isinstance(found, list):
            yield from self._items(wanted, found, path, name)

    def _items(self, wanted: list[Any], found: list[Any], path: str, name: str) -> Iterator[str]:
        if wanted and not found:
            yield f"{path}: empty"
        ours, theirs = ([each for each in items if isinstance(each, dict)] for items in (found, wanted))
        if ours and theirs:
            yield from self._keys(theirs, ours, f"{path}[]")
        elif wanted and found and {_kind(each) for each in found} - {_kind(each) for each in wanted} - {"null"}:
            yield f"{path}[]: {_kind(found[0])} instead of {_kind(wanted[0])}"

    def _keys(self, wanted: list[dict[str, Any]], found: list[dict[str, Any]], path: str) -> Iterator[str]:
        known = {key for each in wanted for key in each}
        for each in found:
            yield from (f"{path}.{key}: not recorded" for key in each if key not in known)
            yield from (
                f"{path}.{key}: missing" for key in known if key not in each and all(key in other for other in wanted)
            )
            for key in known & set(each):
                if each[key] == [] and any(other.get(key) == [] for other in wanted):
                    # some recorded ones are empty, too
                    continue
                examples = [other[key] for other in wanted if other.get(key) is not None]
                if not (each[key] == [] and [] in examples):
                    yield from self._shape(_one(examples, each[key]), each[key], f"{path}.{key}", key)

    def _link(self, wanted: object, found: object, path: str) -> Iterator[str]:
        if not isinstance(wanted, str) or not isinstance(found, str):
            if wanted is not found:
                yield f"{path}: {found!r} instead of {wanted!r}"
            return
        ours, theirs = urlsplit(found), urlsplit(self.path(wanted))
        if not found.startswith(self.url + "/") or ours.path != theirs.path:
            yield f"{path}: {found!r} instead of {wanted!r}"
            return
        names = [[name for name, _ in parse_qsl(parts.query)] for parts in (ours, theirs)]
        if names[0] != names[1]:
            yield f"{path}: parameters {names[0]} instead of {names[1]}"


def is_accepted(case: str, difference: str) -> bool:
    """Tell whether a difference is one of those that are meant.

    :param case: of the recording.
    :param difference: as :meth:`Replay.differences` writes it.
    """
    return any(fnmatchcase(case, each.case) and fnmatchcase(difference, each.difference) for each in ACCEPTED)


def _headers(wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in HEADERS:
        # the steps of flows were recorded without Allow
        if wanted.get(name) != found.get(name) and (name != "Allow" or name in wanted):
            yield f"header {name}: {found.get(name)!r} instead of {wanted.get(name)!r}"
    if ("Retry-After" in wanted) != ("Retry-After" in found):
        yield f"header Retry-After: {found.get('Retry-After')!r} instead of {wanted.get('Retry-After')!r}"


def _same_words(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    if name != "detail":
        return bool(wanted[name] == found[name])
    texts = [re.sub(r"[0-9a-f-]{36}|\d+", "#", str(each["detail"])) for each in (wanted, found)]
    if wanted["code"] == "parse_error":
        # the list of kinds grows with each version, and the schema's wording with each of its own
        texts = [text[:40] for text in texts]
    return texts[0] == texts[1]


def _one(examples: list[Any], like: object) -> object:
    """Return one example of several: one of the type of the value, if there is one; lists are joined."""
    fitting = [each for each in examples if _kind(each) == _kind(like)] or examples
    if fitting and isinstance(fitting[0], list):
        return [item for each in fitting for item in each]
    return fitting[0] if fitting else None


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "text", int: "number", float: "number", dict: "object", list: "list"}
    return kinds[type(value)]


def _nullable(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (name for name, each in value.items() if each is None)
        for each in value.values():
            yield from _nullable(each)
    elif isinstance(value, list):
        for each in value:
            yield from _nullable(each)


def _all(recordings: Iterable[Recording]) -> frozenset[str]:
    return frozenset(name for each in recordings if each.status < 400 for name in _nullable(each.body))


# the fields that were null in some recorded answer, and may be null in others
NULLABLE = _all(RECORDINGS.values()) | _all(step for steps in FLOWS.values() for step in steps)
