"""The windows that a reading has to read: its range, or what an earlier reading left of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.cells import EPOCH, Cell
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import MICROSECOND, PARTS, Position, Window

_DAY = timedelta(days=1)


def left_of(window: Window, source: Source, resume: Position | None) -> list[Window]:
    """Return the windows that are left of a range, in order.

    :param window: the range, from where all before is safe.
    :param source: what is read.
    :param resume: where an earlier reading has stopped.
    :raises PostHogSettingsError: if that is not a place within the range.
    """
    if source.sort_key and resume is not None:
        return _left_of_parts(window, resume)
    if not source.cells:
        return [window]
    if resume is None or resume.until is None or not window.start < resume.until:
        return [_celled(window, source)]
    until = min(resume.until, window.end)
    begun = _celled(replace(window, end=until), source)
    try:
        left = _left_of_days(begun, resume)
    except (LookupError, TypeError, ValueError):
        raise _no_place() from None
    rest = replace(window, start=until)
    return [*left, _celled(rest, source)] if rest.start < rest.end or not left else left


def _left_of_days(begun: Window, resume: Position) -> list[Window]:
    """Return what is left of a time that is read by cells: of the part of the place, and the days before it.

    The planner may count what is a part as a whole newest first; what is left of one keeps its order.
    """
    whole = begun.cell or Cell()
    first, last = resume.part or (whole.first_day, whole.last_day)
    here = replace(whole, first_day=first, last_day=last)
    left = [replace(begun, cell=cell, part=(first, last)) for cell in here.after(resume.place)]
    if first is not None and (whole.first_day is None or whole.first_day < first):
        before = replace(whole, last_day=first)
        left.append(replace(begun, cell=before, part=(before.first_day, before.last_day)))
    return left


def _left_of_parts(window: Window, resume: Position) -> list[Window]:
    """Return what is left if the whole range is read by parts of the keys."""
    if resume.until is None or not window.start < resume.until <= window.end:
        return [window]
    match resume.place:
        case (int(first),) if type(first) is int and 0 < first < PARTS:
            begun = replace(window, end=resume.until, first=first)
        case _:
            raise _no_place()
    rest = replace(window, start=resume.until)
    return [begun, rest] if rest.start < rest.end else [begun]


def _no_place() -> PostHogSettingsError:
    return PostHogSettingsError("resume_after", "is not a place in the sort key.", "Read it from its beginning.")


def _celled(window: Window, source: Source) -> Window:
    """Return a window with the cell that holds all of it."""
    if source.time != "timestamp" or window.start == window.end:
        return replace(window, cell=Cell())
    first, last = (edge - EPOCH for edge in (window.start, window.end - MICROSECOND))
    return replace(window, cell=Cell(first // _DAY, last // _DAY + 1))
