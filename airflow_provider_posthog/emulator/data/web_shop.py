"""Events and persons of an invented web shop, made inside ClickHouse from a seed.

The same seed, number of events, first day and number of days give the same rows, down to the uuids. The whole is made
of hashes of the row's number, so that a million events take seconds and not minutes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.emulator.hogql.values import literal

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND

# name, weight in thousandths
_EVENTS = (
    ("$pageview", 380),
    ("$pageleave", 190),
    ("$autocapture", 200),
    ("$identify", 50),
    ("$feature_flag_called", 60),
    ("sign_up", 20),
    ("add_to_cart", 50),
    ("purchase", 30),
    ("video played", 15),
    ("Größe geändert", 5),
)
_PAGES = (
    "/",
    "/pricing",
    "/blog/hello-world?ref=a%20b",
    "/docs/getting-started",
    "/cart",
    "/checkout",
    "/suche?q=größe",
)
_BROWSERS = ("Chrome", "Chrome", "Chrome", "Safari", "Safari", "Firefox", "Microsoft Edge", "Opera")
# of the browsers above, in their order
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_CHROME = f"{_WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
_SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari"
_FIREFOX = f"{_WINDOWS} Gecko/20100101 Firefox/132.0"
_AGENTS = (
    _CHROME,
    _CHROME,
    _CHROME,
    _SAFARI,
    _SAFARI,
    _FIREFOX,
    f"{_CHROME} Edg/130.0.0.0",
    f"{_CHROME} OPR/115.0.0.0",
)
_ROBOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "curl/8.7.1",
)
_SYSTEMS = ("Windows", "Mac OS X", "iOS", "Android", "Linux")
_LIBRARIES = ("web", "web", "web", "posthog-node", "posthog-python")
_COUNTRIES = ("US", "DE", "GB", "FR", "BR", "IN", "JP")
_PLANS = ("free", "free", "free", "pro", "enterprise")
# text that breaks careless CSV, SQL and JSON writers
_NOTES = (
    "plain",
    "comma, semicolon; tab\tend",
    'she said "yes"',
    "it's 5 o'clock",
    "two\nlines\r\nor three",
    "back\\slash \\n",
    "emoji 💥👩‍👩‍👧 ünïcödé",
    "=1+1",
    "",
    "{curly} %(percent)s",
)
_FLAGS = ("new-checkout", "dark-mode", "beta")
_COMPANIES = 25
# what comes from nowhere is typed in
_DOMAINS = ("", "", "", "www.google.com", "www.google.com", "www.facebook.com", "blog.example.invalid")
# one of a person's days
_VISIT = "(p, intDiv(at, 86400000000))"


def default_start(days: int) -> datetime:
    """Return the default first day with data, so that the data ends yesterday at midnight UTC.

    :param days: days of data
    """
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)


def person_count(events: int) -> int:
    """Return how many persons a number of events has.

    :param events: events of the project
    """
    return max(1, min(events // 20, 20_000))


def fill_statements(database: str, *, seed: int, events: int, start: datetime, days: int) -> list[str]:
    """Write the INSERTs that make the data.

    :param database: ClickHouse database of the project
    :param seed: what the data depends on
    :param events: rows of ``events``
    :param start: the first moment with data
    :param days: how many days of data
    """
    maker = _Maker(database, seed, events, start, days)
    return [maker.events(), maker.persons(), maker.distinct_ids(), maker.groups()] if events else [maker.groups()]


class _Maker:
    """Writes the SQL; ``n`` is the row's number in all of it, ``p`` the person's."""

    def __init__(self, database: str, seed: int, events: int, start: datetime, days: int) -> None:
        self.database, self.seed, self.rows = database, seed, events
        self.start = int(start.timestamp()) * _SECOND
        self.span = days * _DAY
        self.people = person_count(events)

    # -- pieces --------------------------------------------------------------------------------------------------

    def dice(self, salt: str, of: str = "n") -> str:
        """Write a number that depends on the seed, the row and the salt."""
        return f"cityHash64({self.seed}, {of}, '{salt}')"

    def pick(self, choices: Sequence[str], salt: str, of: str = "n") -> str:
        """Write one of the choices."""
        return f"arrayElement({literal(list(choices), clickhouse=True)}, 1 + {self.dice(salt, of)} % {len(choices)})"

    def pick_json(self, choices: Sequence[str], salt: str, of: str = "n") -> str:
        """Write the JSON text of one of the choices."""
        return self.pick([json.dumps(choice, ensure_ascii=False) for choice in choices], salt, of)

    def hex_digits(self, salt: str, of: str = "n") -> str:
        """Write 32 hexadecimal digits (``hex`` of a number would leave out leading zeros)."""
        return f"lower(hex(sipHash128({self.seed}, {of}, '{salt}')))"

    def uuid(self, salt: str, version: str, of: str = "n") -> str:
        """Write a uuid made from hashes."""
        digits = self.hex_digits(salt, of)
        return (
            f"toUUID(concat(substring({digits}, 1, 8), '-', substring({digits}, 9, 4), '-{version}', "
            f"substring({digits}, 13, 3), '-a', substring({digits}, 16, 3), '-', substring({digits}, 19, 12)))"
        )

    def moment(self, micros: str) -> str:
        """Write a DateTime64 from microseconds since 1970."""
        return f"fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')"

    # -- persons and groups --------------------------------------------------------------------------------------

    def persons(self) -> str:
        """Write the persons: each as old as its first event, and 2 of 3 are identified.

        Those of whom no event was seen came in the 60 days before the data starts.
        """
        properties = [
            ("plan", self.pick_json(_PLANS, "plan", "p")),
            ("seats", f"toString(1 + {self.dice('seats', 'p')} % 50)"),
            ("note", self.pick_json(_NOTES, "note", "p")),
            ("$initial_referring_domain", "'\"example.invalid\"'"),
            ("$geoip_country_code", self.pick_json(_COUNTRIES, "country", "p")),
        ]
        named = [
            ("email", "concat('\"user', toString(p), '@example.invalid\"')"),
            ("name", "concat('\"User ', toString(p), '\"')"),
        ]
        return f"""
            INSERT INTO {self.database}.persons (id, created_at, properties, is_identified)
            WITH {self.dice("known", "p")} % 3 > 0 AS identified
            SELECT {self.uuid("person", "4", "p")} AS id, if(seen.events = 0, {self._came()}, seen.first),
                if(identified, {_object(named + properties)}, {_object(properties)}), identified
            FROM (SELECT number AS p FROM numbers({self.people})) AS everybody
            LEFT JOIN (
                SELECT person_id, min(timestamp) AS first, count() AS events FROM {self.database}.events
                WHERE person_mode = 'full' GROUP BY person_id
            ) AS seen ON seen.person_id = {self.uuid("person", "4", "p")}"""  # noqa: S608 - of our own making

    def distinct_ids(self) -> str:
        """Write the distinct_ids: each person has one, every fourth one or two more from other devices."""
        return f"""
            INSERT INTO {self.database}.person_distinct_ids (distinct_id, person_id)
            SELECT {self._distinct_id()}, {self.uuid("person", "4", "p")}
            FROM (SELECT number AS p FROM numbers({self.people}))
            ARRAY JOIN range({self._devices()}) AS device"""  # noqa: S608 - of our own making

    def groups(self) -> str:
        """Write companies, as group type 0."""
        properties = [
            ("name", "concat('\"Acme ', toString(p), ' \\\\\"Inc\\\\\", Ltd\"')"),
            ("employees", "toString(p * 7)"),
        ]
        return f"""
            INSERT INTO {self.database}.groups (`index`, key, created_at, updated_at, properties)
            SELECT 0, concat('acme:', toString(p)), {self._came()}, {self._came()}, {_object(properties)}
            FROM (SELECT number AS p FROM numbers({_COMPANIES}))"""  # noqa: S608 - of our own making

    def _came(self) -> str:
        return self.moment(f"{self.start} - {self.dice('came', 'p')} % {60 * _DAY}")

    def _devices(self) -> str:
        return f"if({self.dice('devices', 'p')} % 4 = 0, 2 + {self.dice('more', 'p')} % 2, 1)"

    def _distinct_id(self) -> str:
        return "if(device = 0, concat('user-', toString(p)), concat('device-', toString(device), '-', toString(p)))"

    # -- events --------------------------------------------------------------------------------------------------

    def events(self) -> str:
        """Write the events; every tenth has no person."""
        chain = 'concat(\'a.nav-link:attr__href="\', page, \'"href="\', page, \'"nth-child="1"text="Go on"\')'
        return f"""
            INSERT INTO {self.database}.events (uuid, event, properties, timestamp, distinct_id, elements_chain,
                created_at, `$session_id`, `$window_id`, person_mode, `$group_0`, elements_chain_href,
                elements_chain_texts, elements_chain_elements, person_id)
            WITH event = '$autocapture' AS clicked, intDiv(at, 1000) AS millis
            SELECT {self._event_uuid()}, event, {self._event_properties()}, {self.moment("at")}, distinct_id,
                if(clicked, {chain}, ''), {self.moment(self._arrival())}, session, window,
                if(personless, 'propertyless', 'full'), company, if(clicked, page, ''),
                if(clicked, ['Go on'], []), if(clicked, ['a'], []),
                if(personless, {self.uuid("nobody", "5", "p")}, {self.uuid("person", "4", "p")})
            FROM ({self._actors()})"""  # noqa: S608 - of our own making

    def _actors(self) -> str:
        """Write who did what, when and where."""
        bounds = [sum(weight for _, weight in _EVENTS[: place + 1]) for place in range(len(_EVENTS))]
        names = literal([name for name, _ in _EVENTS], clickhouse=True)
        company = self.dice("company", "p")
        return f"""
            SELECT n, at, p, personless, page,
                arrayElement({names}, arrayFirstIndex(edge -> {self.dice("event")} % 1000 < edge, {bounds})) AS event,
                if(personless, concat('anon-', toString(p)), {self._distinct_id()}) AS distinct_id,
                {self._session()} AS session,
                toString({self.uuid("window", "7", _VISIT)}) AS window,
                if({company} % 3 = 0, concat('acme:', toString({company} % {_COMPANIES})), '') AS company
            FROM (
                SELECT n, at, p, personless, page, toUInt64({self.dice("device")} % {self._devices()}) AS device
                FROM (
                    SELECT number AS n, {self._event_time()} AS at, toUInt64({self.dice("who")} % {self.people}) AS p,
                        {self.dice("who")} % 10 = 0 AS personless, {self.pick(_PAGES, "page")} AS page
                    FROM numbers({self.rows})
                )
            )"""  # noqa: S608 - of our own making

    def _session(self) -> str:
        """Write the id of a visit: a UUID of version 7, which begins with the time of the day's begin."""
        millis = f"hex(toUInt64(intDiv(at, {_DAY}) * {_DAY // 1000}))"
        digits = f"leftPad(lower({millis}), 12, '0')"
        rest = f"substring(toString({self.uuid('session', '7', _VISIT)}), 14)"
        return f"concat(substring({digits}, 1, 8), '-', substring({digits}, 9, 4), {rest})"

    def _event_time(self) -> str:
        """Write a time: spread evenly, busier in the middle of the day; some share their microsecond with neighbours.

        Rows that share it are what a careless reader of pages loses at a page's edge.
        """
        crowd = f"{self.dice('crowd', 'intDiv(n, 4)')} % 50 = 0"
        even = f"intDiv(if({crowd}, intDiv(n, 4) * 4, n) * {self.span}, {self.rows})"
        part = f"({even} % {_DAY}) / {_DAY}."
        curve = f"({part} + 0.8 * sin(2 * pi() * {part}) / (2 * pi()))"
        within = f"greatest(0, floor({curve} * {_DAY - _SECOND}))"
        spread = f"if({crowd}, 0, {self.dice('micro')} % 997)"
        return f"toInt64({self.start} + intDiv({even}, {_DAY}) * {_DAY} + {within} + {spread})"

    def _arrival(self) -> str:
        """Write ``created_at``: seconds later, one in 200 up to three days late, but none after the last day."""
        late = f"if({self.dice('late')} % 200 = 0, {self.dice('delay')} % {3 * _DAY}, 0)"
        soon = f"200000 + {self.dice('delay', 'intDiv(n, 3)')} % 4800000"
        return f"if(at + {late} < {self.start + self.span - 10 * _SECOND}, at + {late}, at) + {soon}"

    def _event_uuid(self) -> str:
        """Write a uuid of version 7: its first 48 bits are the milliseconds, as PostHog's libraries make them."""
        millis, rest = "leftPad(lower(hex(toUInt64(millis))), 12, '0')", self.hex_digits("uuid")
        return (
            f"toUUID(concat(substring({millis}, 1, 8), '-', substring({millis}, 9, 4), '-7', substring({rest}, 1, 3), "
            f"'-a', substring({rest}, 4, 3), '-', substring({rest}, 7, 12)))"
        )

    def _event_properties(self) -> str:
        screen = f"1 + {self.dice('screen', 'p')} % 3"
        common = [
            ("$lib", self.pick_json(_LIBRARIES, "lib", "p")),
            ("$lib_version", "'\"1.178.0\"'"),
            ("$os", self.pick_json(_SYSTEMS, "os", "p")),
            ("$browser", self.pick_json(_BROWSERS, "browser", "p")),
            ("$browser_version", f"toString(100 + {self.dice('version', 'p')} % 30)"),
            ("$current_url", "concat('\"https://shop.example.invalid', page, '\"')"),
            ("$host", "'\"shop.example.invalid\"'"),
            ("$pathname", "concat('\"', path(concat('https://x', page)), '\"')"),
            ("$screen_width", f"toString(arrayElement([390, 1440, 1920], {screen}))"),
            ("$screen_height", f"toString(arrayElement([844, 900, 1080], {screen}))"),
            ("$device_type", f"arrayElement(['\"Mobile\"', '\"Desktop\"', '\"Desktop\"'], {screen})"),
            ("$referrer", self._came_from("referrer")),
            ("$referring_domain", self._came_from("domain")),
            ("$geoip_country_code", self.pick_json(_COUNTRIES, "country", "p")),
            ("$session_id", "concat('\"', session, '\"')"),
            ("$window_id", "concat('\"', window, '\"')"),
            ("$insert_id", f"concat('\"', substring({self.hex_digits('insert')}, 1, 16), '\"')"),
            ("$time", "toString(at / 1000000.)"),
            ("$is_identified", "if(personless, 'false', 'true')"),
            ("token", "'\"phc_emulator\"'"),
            ("distinct_id", "concat('\"', distinct_id, '\"')"),
            ("note", self.pick_json(_NOTES, "note")),
        ]
        return _object(common, self._rare_properties())

    def _came_from(self, what: str) -> str:
        """Write where a visit came from: all its events say the same."""
        domains = {"domain": _DOMAINS, "referrer": [domain and f"https://{domain}/" for domain in _DOMAINS]}[what]
        choices = [json.dumps(domain or "$direct") for domain in domains]
        return self.pick(choices, "referrer", _VISIT)

    def _rare_properties(self) -> list[str]:
        """Write what only some events carry, each a text that starts with a comma, or an empty one."""
        amount = f"toString(round(({self.dice('amount')} % 100000) / 100., 2))"
        flag = self.pick_json(_FLAGS, "flag")
        sku = f"toString({self.dice('sku')} % 40)"
        robot = f"personless AND {self.dice('robot', 'p')} % 6 = 0"
        agent = f"if({robot}, {self.pick_json(_ROBOTS, 'which', 'p')}, {self.pick_json(_AGENTS, 'browser', 'p')})"
        from_browser = f"{self.pick(_LIBRARIES, 'lib', 'p')} = 'web'"
        address = ',"shipping":{"method":"post","address":{"city":"Zürich","lines":[1,null]}}'
        return [
            """if(company != '', concat(',"$groups":{"company":"', company, '"}'), '')""",
            """if(clicked, ',"$event_type":"click","$el_text":"Go on"', '')""",
            # a server's library sends none
            f"""if({from_browser}, concat(',"$raw_user_agent":', {agent}), '')""",
            f"""if({self.dice("campaign", _VISIT)} % 8 = 0,
                ',"utm_source":"newsletter","utm_medium":"email","utm_campaign":"spring"', '')""",
            f"""if(event = '$feature_flag_called', concat(',"$feature_flag":', {flag},
                ',"$feature_flag_response":', if({self.dice("on")} % 2 = 0, 'true', 'false')), '')""",
            f"""if(event IN ('purchase', 'add_to_cart'), concat(',"amount":', {amount}, ',"currency":"EUR","quantity":',
                toString(1 + {self.dice("quantity")} % 5), ',"items":[{{"sku":"sku-', {sku}, '","price":', {amount},
                '}}]{address}'), '')""",
            f"""if(event IN ('sign_up', '$identify'), concat(',"plan":', {self.pick_json(_PLANS, "plan", "p")},
                ',"$set":{{"email":"user', toString(p), '@example.invalid"}}'), '')""",
        ]


def _object(pairs: Sequence[tuple[str, str]], rest: Sequence[str] = ()) -> str:
    """Write a JSON object of keys and of SQL that gives JSON text."""
    parts = []
    for place, (key, value) in enumerate(pairs):
        parts += [f"'{',' if place else '{'}\"{key}\":'", value]
    return f"concat({', '.join([*parts, *rest])}, '}}')"
