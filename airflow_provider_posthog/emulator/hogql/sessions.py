"""The table ``sessions``: what HogQL shows of it, and how ClickHouse gathers it from events.

Each event of a session is kept in a table of its own, which no deletion of a person reaches: what is asked of the
session is worked out when it is asked, from the first and the last of its events.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.schema_types import Link, Table, Through

_STRING = Column("string")
_INTEGER = Column("integer", nullable=False)
_TIME = Column("datetime", nullable=False)
_OTHER = Column("other")
# what the first event of a session says of where the visitor came from
_ATTRIBUTION = (
    *("utm_source", "utm_campaign", "utm_medium", "utm_term", "utm_content"),
    *("gclid", "gad_source", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "twclid", "li_fat_id"),
    *("mc_cid", "igshid", "ttclid", "_kx", "irclid"),
)
# columns that `*` leaves out: other names for columns that it has
_HIDDEN = frozenset({"session_id_v7", "team_id", "id", "duration", "$exit_current_url", "$exit_pathname"})
# PostHog looks sources up in a dictionary of a thousand; these are the best known of them
_SEARCH = ("google", "bing", "duckduckgo", "yahoo", "baidu", "yandex", "ecosia")
_SOCIAL = ("facebook", "instagram", "twitter", "t.co", "x.com", "linkedin", "lnkd.in", "reddit", "tiktok", "pinterest")
_VIDEO = ("youtube", "vimeo", "twitch")
_SHOPPING = ("amazon", "ebay", "etsy", "shopify")
_PAID_MEDIA = ("cpc", "cpm", "cpv", "cpa", "ppc", "retargeting")


def sessions_table() -> Table:
    """Describe the table to HogQL."""
    fields: dict[str, Column | Link | Through] = {"id": _STRING, "session_id": _STRING, "team_id": _INTEGER}
    fields["session_id_v7"] = Column("integer")
    fields |= {"distinct_id": _STRING, "$start_timestamp": _TIME, "$end_timestamp": _TIME, "max_inserted_at": _TIME}
    fields |= {"$urls": _OTHER, "$num_uniq_urls": _INTEGER}
    fields |= {
        f"${end}_{part}": _STRING for end in ("entry", "end") for part in ("current_url", "pathname", "hostname")
    }
    fields |= {"$entry_referring_domain": _STRING, "$entry_referrer": _STRING}
    fields |= {f"$entry_{name}": _STRING for name in _ATTRIBUTION}
    fields |= {f"${name}_count": _INTEGER for name in ("pageview", "autocapture", "screen")}
    fields |= {"$channel_type": _STRING, "$session_duration": _INTEGER, "duration": _INTEGER, "$is_bounce": _OTHER}
    fields |= {"$last_external_click_url": _STRING, "$page_screen_autocapture_count_up_to": _INTEGER}
    fields |= {"$exit_current_url": _STRING, "$exit_pathname": _STRING, "$vitals_lcp": Column("number")}
    return Table("sessions", fields, _HIDDEN)


def session_statements() -> list[str]:
    """Write the statements that make the tables; ``{db}`` stands for the project's database."""
    return [_RAW, _FILLER, f"CREATE VIEW {{db}}.sessions AS SELECT {_columns()} FROM ({_GATHERED})"]  # noqa: S608


_RAW = """CREATE TABLE {db}.raw_sessions (
    uuid UUID, session_id String, distinct_id String, timestamp DateTime64(6, 'UTC'),
    inserted_at DateTime64(6, 'UTC'), event String, url String, properties String
) ENGINE = ReplacingMergeTree ORDER BY uuid"""
_FILLER = """CREATE MATERIALIZED VIEW {db}.raw_sessions_filler TO {db}.raw_sessions AS SELECT
    uuid, `$session_id` AS session_id, distinct_id, timestamp, created_at AS inserted_at, event,
    JSONExtractString(properties, '$current_url') AS url, properties
FROM {db}.events WHERE `$session_id` != ''"""
_GATHERED = """
    SELECT session_id, argMax(distinct_id, timestamp) AS distinct_id, min(timestamp) AS began, max(timestamp) AS ended,
        max(inserted_at) AS arrived, arrayFilter(each -> each != '', groupUniqArray(url)) AS urls,
        nullIf(argMin(url, timestamp), '') AS entry, nullIf(argMax(url, timestamp), '') AS end,
        argMin(properties, timestamp) AS first, countIf(event = '$pageview') AS pageviews,
        countIf(event = '$autocapture') AS clicks, countIf(event = '$screen') AS screens,
        nullIf(argMaxIf(JSONExtractString(properties, '$external_click_url'), timestamp,
            JSONHas(properties, '$external_click_url')), '') AS external_click,
        argMinIf(JSONExtract(properties, '$web_vitals_LCP_value', 'Nullable(Float64)'), timestamp,
            JSONHas(properties, '$web_vitals_LCP_value')) AS lcp,
        dateDiff('second', began, ended) AS seconds
    FROM {db}.raw_sessions FINAL GROUP BY session_id"""


def _first(name: str) -> str:
    """Write a property of the first event; null for an empty one."""
    return f"nullIf(nullIf(JSONExtractString(first, '{name}'), ''), 'null')"


def _columns() -> str:
    columns = {
        "id": "session_id",
        "session_id": "session_id",
        # as a number, which begins with its time
        "session_id_v7": "toUInt128(ifNull(toUUIDOrNull(session_id), toUUID('00000000-0000-0000-0000-000000000000')))",
        "team_id": "{team}",
        "distinct_id": "distinct_id",
        "$start_timestamp": "began",
        "$end_timestamp": "ended",
        "max_inserted_at": "arrived",
        "$urls": "urls",
        "$num_uniq_urls": "length(urls)",
        **{f"${place}_current_url": place for place in ("entry", "end")},
        **{f"${place}_pathname": f"path({place})" for place in ("entry", "end")},
        **{f"${place}_hostname": f"domain({place})" for place in ("entry", "end")},
        "$entry_referring_domain": _first("$referring_domain"),
        "$entry_referrer": _first("$referrer"),
        **{f"$entry_{name}": _first(name) for name in _ATTRIBUTION},
        "$pageview_count": "pageviews",
        "$autocapture_count": "clicks",
        "$screen_count": "screens",
        "$channel_type": _channel(_first),
        "$session_duration": "seconds",
        "duration": "seconds",
        # a visit of one page, no click and less than ten seconds; nobody knows of one without a page
        "$is_bounce": "if(pageviews = 0, NULL, toBool(pageviews <= 1 AND clicks = 0 AND seconds < 10))",
        "$last_external_click_url": "external_click",
        "$page_screen_autocapture_count_up_to": "least(pageviews + clicks + screens, 2)",
        "$exit_current_url": "end",
        "$exit_pathname": "path(end)",
        "$vitals_lcp": "lcp",
    }
    return ", ".join(f"{sql} AS `{name}`" for name, sql in columns.items())


def _known(value: str, words: tuple[str, ...]) -> str:
    return f"arrayExists(word -> position(ifNull({value}, ''), word) > 0, {list(words)})"


def _type_of(value: str, kind: str) -> str:
    """Write the channel that a source stands for, null for one that PostHog's dictionary does not have."""
    names = {"Search": _SEARCH, "Social": _SOCIAL, "Video": _VIDEO, "Shopping": _SHOPPING}
    pairs = ", ".join(f"{_known(value, words)}, '{kind} {name}'" for name, words in names.items())
    return f"multiIf({pairs}, NULL)"


def _domain_type(value: str) -> str:
    """Write what kind of site a domain is; null for one that PostHog's dictionary does not have."""
    names = {"Search": _SEARCH, "Social": _SOCIAL, "Video": _VIDEO, "Shopping": _SHOPPING}
    pairs = ", ".join(f"{_known(value, words)}, '{name}'" for name, words in names.items())
    return f"multiIf({value} = '$direct', '$direct', {pairs}, NULL)"


def _initial(name: str) -> str:
    """Write what a person's first event said."""
    return f"nullIf(nullIf(JSONExtractString(properties, '$initial_{name.removeprefix('$')}'), ''), 'null')"


#: Columns of persons: where they first came from.
FIRST_SOURCES = ("$virt_initial_referring_domain_type", "$virt_initial_channel_type")


def first_sources() -> str:
    """Write these columns of persons, worked out of their properties; null for a person that is not there."""
    written = _domain_type(_initial("$referring_domain")), _channel(_initial)
    return ", ".join(f"toNullable({sql}) AS `{name}`" for name, sql in zip(FIRST_SOURCES, written, strict=True))


def _channel(first: Callable[[str], str]) -> str:
    """Write PostHog's rules of channels, in its order; ``first`` writes a property of the first event."""
    source, medium, campaign = (f"lower({first(f'utm_{name}')})" for name in ("source", "medium", "campaign"))
    domain, gad = first("$referring_domain"), first("gad_source")
    shop = f"match({campaign}, '^(.*(([^a-df-z]|^)shop|shopping).*)$')"
    video = f"match({campaign}, '^(.*video.*)$')"
    has_fb = f"{first('fbclid')} IS NOT NULL"
    paid = (
        f"{medium} IN {_PAID_MEDIA} OR startsWith({medium}, 'paid') OR {first('gclid')} IS NOT NULL"
        f" OR {gad} IS NOT NULL"
    )
    paid_medium = f"multiIf({medium} IN ('display', 'banner', 'cpm'), 'Display', NULL)"
    organic_medium = (
        f"multiIf({medium} IN ('email', 'e-mail', 'e_mail', 'e mail', 'newsletter'), 'Email', {medium} = 'affiliate', "
        f"'Affiliate', {medium} = 'audio', 'Audio', {medium} = 'sms', 'SMS', {medium} = 'social', 'Organic Social', "
        f"{medium} IN ('referral', 'app', 'link'), 'Referral', NULL)"
    )
    direct = (
        f"{domain} = '$direct' AND {medium} IS NULL AND ({source} IS NULL OR {source} IN ('(direct)', 'direct', "
        f"'$direct')) AND NOT {has_fb}"
    )
    return f"""multiIf(
        match({campaign}, 'cross-network'), 'Cross Network',
        ifNull({paid}, 0), coalesce({_type_of(source, "Paid")}, if({shop}, 'Paid Shopping', NULL), {paid_medium},
            {_type_of(domain, "Paid")}, multiIf({gad} = '1', 'Paid Search', {video}, 'Paid Video', {has_fb},
            'Paid Social', 'Paid Unknown')),
        ifNull({direct}, 0), 'Direct',
        coalesce({_type_of(source, "Organic")}, if({shop}, 'Organic Shopping', NULL), {organic_medium},
            {_type_of(domain, "Organic")}, multiIf({video}, 'Organic Video', match({medium}, 'push$'), 'Push', {has_fb},
            'Organic Social', {domain} = '$direct', 'Direct', {domain} IS NOT NULL, 'Referral', 'Unknown')))"""
