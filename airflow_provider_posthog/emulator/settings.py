"""What of the emulator can be changed while it runs, through ``/__emulator__/settings``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_posthog.emulator.hogql.schema import NEW_TABLES

# the switches that make the server of October 2024 whose answers were recorded; the defaults are Cloud's of 2026
OCTOBER_2024: dict[str, object] = {
    "generation": "A",
    "exceptions_reported": False,
    "dated_filenames": False,
    "table_days": 182,
    "content_mode": "direct",
    "insight_errors": "raise",
    "unauthenticated_status": 403,
    "unknown_project_status": 500,
    "events_limited": False,
}
# three ages of PostHog, which differ most in persons: until 2025, until September 2026, and Cloud since then; a setting
# ``generation`` sets what belongs to it, too
GENERATIONS: dict[str, dict[str, object]] = {
    "A": OCTOBER_2024,
    "B": {"generation": "B"},
    "C": {"generation": "C"},
}
# what PostHog takes where the project has no months
DEFAULT_MONTHS = 84
SWEEPS = ("delete", "verify_only", "skip")
CAPTURES = ("stored", "lost", "refused")
RUN_OUTCOMES = ("Completed", "Failed", "FailedRetryable", "FailedBilling", "Terminated", "TimedOut", "ContinuedAsNew")
WAREHOUSE_OUTCOMES = ("Completed", "Failed", "Skipped", "Billing limits", "Billing limit too low")
OUTCOMES = ("succeed", "exception", "exception_then_success", "silent_failure", "slow")
Check = Callable[[object], bool]


class SettingError(ValueError):
    """A setting that does not exist or a value that it cannot have; the text says which and what it takes."""


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TEXTS = {"check": _are_texts, "takes": "a list of texts"}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_zone(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _seconds(default: float) -> Any:  # noqa: ANN401 - dataclasses.field is typed as the default's type, too
    return field(default=default, metadata={"check": _is_number, "takes": "a number of seconds, 0 or more"})


def _positive(default: float) -> Any:  # noqa: ANN401
    check: Check = lambda value: _is_number(value) and value != 0  # noqa: E731
    return field(default=default, metadata={"check": check, "takes": "a number above 0"})


def _flag(default: bool) -> Any:  # noqa: ANN401
    check: Check = lambda value: isinstance(value, bool)  # noqa: E731
    return field(default=default, metadata={"check": check, "takes": "true or false"})


def _choice(default: object, options: tuple[object, ...]) -> Any:  # noqa: ANN401
    def check(value: object) -> bool:
        return any(value == option and type(value) is type(option) for option in options)

    return field(default=default, metadata={"check": check, "takes": "one of " + ", ".join(map(str, options))})


def _text(default: str) -> Any:  # noqa: ANN401
    check: Check = lambda value: isinstance(value, str) and value != ""  # noqa: E731
    return field(default=default, metadata={"check": check, "takes": "a text that is not empty"})


def _count(default: int) -> Any:  # noqa: ANN401
    return field(default=default, metadata={"check": _is_count, "takes": "a whole number, 1 or more"})


def _whole(default: int) -> Any:  # noqa: ANN401
    check: Check = lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0  # noqa: E731
    return field(default=default, metadata={"check": check, "takes": "a whole number, 0 or more"})


def _optional(default: object, check: Check, takes: str) -> Any:  # noqa: ANN401
    return field(
        default=default,
        metadata={"check": lambda value: value is None or check(value), "takes": f"{takes}, or null"},
    )


@dataclass
class Settings:
    """The switches of the server, with the behaviour of PostHog Cloud in 2026 as the default.

    docs/emulator.md explains each of them.
    """

    # exports
    export_seconds: float = _seconds(1.0)
    export_outcome: str = _choice("succeed", OUTCOMES)
    exception_text: str = _text("ClickHouse error while executing query.")
    retry_seconds: float = _seconds(1.0)
    slow_seconds: float = _seconds(1200.0)
    stuck_seconds: float = _seconds(600.0)
    exceptions_reported: bool = _flag(True)
    create_blocks: bool = _flag(False)
    content_mode: str = _choice("redirect", ("redirect", "direct"))
    not_ready: int = _choice(404, (404, 409, 425))
    link_seconds: float = _seconds(3600.0)
    csv_row_cap: int = _count(300_000)
    dated_filenames: bool = _flag(True)
    table_days: int = _count(7)
    sanitize_formulas: bool = _flag(False)
    # queries and insights
    query_seconds: float = _seconds(0.0)
    async_seconds: float = _seconds(0.2)
    status_seconds: float = _seconds(1200.0)
    cache_seconds: float | None = _optional(None, _is_number, "a number of seconds, 0 or more")
    concurrency: int = _count(3)
    concurrency_wait_seconds: float = _seconds(30.0)
    hide_query_errors: bool = _flag(False)
    query_budget_headers: bool = _flag(True)
    query_bytes_per_hour: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    query_budget_hours: float = _positive(24.0)
    insight_errors: str = _choice("status", ("status", "raise"))
    insight_outcome: str = _choice("compute", ("compute", "concurrency"))
    insight_concurrency: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    hidden_insights: list[int] = field(
        default_factory=list, metadata={"check": _are_counts, "takes": "a list of whole numbers, 1 or more"}
    )
    legacy_insights: bool = _flag(True)
    ai_approved: bool = _flag(True)
    # persons, events and groups
    person_lag_seconds: float = _seconds(0.0)
    event_lag_seconds: float = _seconds(0.0)
    native_json: bool = _flag(False)
    unknown_columns: list[str] = field(default_factory=list, metadata=_TEXTS)
    persons_queued: bool = _flag(True)
    person_deletion_seconds: float = _seconds(0.0)
    bulk_failure_status: int = _choice(500, (202, 500, 503))
    sweep_outcome: str = _choice("delete", SWEEPS)
    sweep_age_seconds: float = _seconds(0.0)
    swallow_duplicates: bool = _flag(True)
    capture: str = _choice("stored", CAPTURES)
    events_limited: bool = _flag(True)
    offset_seconds: float = _seconds(1.0)
    withdrawn: str = _choice("refuse", ("refuse", "answer"))
    # capture
    capture_v1: bool = _flag(True)
    capture_refusals: str = _choice("event", ("event", "batch"))
    ingestion_seconds: float = _seconds(0.0)
    merge_seconds: float = _seconds(0.0)
    capture_quota: int | None = _optional(
        None, lambda value: value == 0 or _is_count(value), "a whole number, 0 or more"
    )
    capture_burst: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    capture_retries: int = field(
        default=0,
        metadata={"check": lambda value: value == 0 or _is_count(value), "takes": "a whole number, 0 or more"},
    )
    historical_only: bool = _flag(False)
    restricted_events: list[str] = field(default_factory=list, metadata=_TEXTS)
    lost_uuids: list[str] = field(default_factory=list, metadata=_TEXTS)
    # cohorts, flags and experiments
    cohort_seconds: float = _seconds(0.0)
    cohort_lost: int = field(
        default=0,
        metadata={"check": lambda value: value == 0 or _is_count(value), "takes": "a whole number, 0 or more"},
    )
    flags_frozen: bool = _flag(False)
    recalculation_seconds: float = _seconds(0.0)
    recalculation_outcome: str = _choice("completed", ("completed", "failed"))
    # batch exports and file downloads
    batch_run_seconds: float = _seconds(1.0)
    batch_outcome: str = _choice("Completed", RUN_OUTCOMES)
    batch_records_failed: int = _whole(0)
    batch_destination: str | None = _optional(None, lambda value: isinstance(value, str) and value != "", "a folder")
    batch_jitter_seconds: float | None = _optional(None, _is_number, "a number of seconds, 0 or more")
    backfill_hidden_seconds: float = _seconds(1.0)
    max_backfills: int = _count(5)
    # the warehouse
    warehouse_job_seconds: float = _seconds(1.0)
    warehouse_start_seconds: float = _seconds(0.0)
    warehouse_starts: bool = _flag(True)
    warehouse_outcome: str = _choice("Completed", WAREHOUSE_OUTCOMES)
    warehouse_rows: int = _whole(100)
    warehouse_unpaid: bool = _flag(False)
    warehouse_no_files: bool = _flag(False)
    checks_enabled: bool = _flag(True)
    checks_seconds: float = _seconds(0.0)
    checks_outcome: str = _choice("completed", ("completed", "failed"))
    checks_failing: list[str] = field(default_factory=list, metadata=_TEXTS)
    checks_erring: list[str] = field(default_factory=list, metadata=_TEXTS)
    file_download_seconds: float = _seconds(1.0)
    file_download_outcome: str = _choice("Completed", RUN_OUTCOMES)
    file_listing_seconds: float = _seconds(0.2)
    file_download_days: int = _count(7)
    max_file_downloads: int = _count(20)
    rows_per_file: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    # the project's retention of events (generation C only); null months are PostHog's own default of 84
    event_retention_months: int | None = _optional(84, _is_count, "a whole number, 1 or more")
    events_retention_enforced: bool = _flag(False)
    # the server as a whole
    generation: str = _choice("C", tuple(GENERATIONS))
    system_tables: bool = _flag(True)
    timezone: str = field(default="UTC", metadata={"check": _is_zone, "takes": "an IANA time zone"})
    environments_alias: bool = _flag(False)
    unauthenticated_status: int = _choice(401, (401, 403))
    unknown_project_status: int = _choice(404, (404, 500))
    rate_limit_per_minute: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    rate_limits: float | None = _optional(None, lambda value: _is_number(value) and value != 0, "a number above 0")
    retry_after: bool = _flag(True)
    links_host: str | None = _optional(None, lambda value: isinstance(value, str) and value != "", "a text")
    max_page: int | None = _optional(None, _is_count, "a whole number, 1 or more")
    gzip: bool = _flag(True)

    def merge(self, changes: Mapping[str, object]) -> None:
        """Change some of the settings, or none of them when one is wrong.

        :param changes: new values by name.
        :raises SettingError: for a name that does not exist or a value of the wrong kind.
        """
        known = {field.name: field for field in fields(self)}
        preset = GENERATIONS.get(str(changes.get("generation")), {})
        if preset:
            changes = {**{name: known[name].default for name in OCTOBER_2024}, **preset, **changes}
        for name, value in changes.items():
            if name not in known:
                raise SettingError(f"There is no setting {name!r}. There are: {', '.join(sorted(known))}.")
            if not known[name].metadata["check"](value):
                raise SettingError(f"Setting {name!r} takes {known[name].metadata['takes']}, not {value!r}.")
        for name, value in changes.items():
            setattr(self, name, value)

    def hidden_months(self) -> int | None:
        """Return after how many months queries no longer see events; ``None`` if they see all of them."""
        if self.generation != "C" or not self.events_retention_enforced:
            return None
        return self.event_retention_months or DEFAULT_MONTHS

    def missing_tables(self) -> frozenset[str]:
        """Return which tables, and columns as ``table.column``, this server's HogQL does not know yet."""
        is_old = self.generation == "A" or not self.system_tables
        return frozenset(self.unknown_columns) | (NEW_TABLES if is_old else frozenset())

    def retention_json(self) -> dict[str, object]:
        """Return the project's fields about its events' retention: none before 2026."""
        names = ("event_retention_months", "events_retention_enforced") if self.generation == "C" else ()
        return {name: getattr(self, name) for name in names}

    def as_json(self) -> dict[str, object]:
        """Return all settings by name."""
        return asdict(self)
