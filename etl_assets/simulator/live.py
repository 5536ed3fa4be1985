"""Activity of a simulated totesys while one looks on: in real time, or faster, so that there is always something."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from time import sleep

from etl_assets.simulator.activity import TRANSACTIONS_PER_DAY, Event, Totesys

_PAUSE_BETWEEN_DAYS = timedelta(hours=1)
_TOO_LATE = timedelta(minutes=1)
_MISHAPS_EVERY = timedelta(minutes=30)
_MISTYPED_AFTER, _CANCELLED_AFTER, _CORRECTED_AFTER = (timedelta(minutes=minutes) for minutes in (1, 3, 6))


def plan(
    totesys: Totesys, start: datetime, speed: float = 1, transactions_per_day: float = TRANSACTIONS_PER_DAY
) -> Iterator[Event]:
    """Yield the events of each day from `start` on. With a speed other than 1, working day follows on working day."""
    days = (start.date() + timedelta(days=number) for number in count())
    begins = start
    for day in days:
        events = totesys.plan_day(day, transactions_per_day)
        if speed == 1:
            yield from (event for event in events if event.at >= start)
        elif events:
            opens, closes = events[0].at, events[-1].at
            yield from (event._replace(at=begins + (event.at - opens) / speed) for event in events)
            begins += (closes - opens + _PAUSE_BETWEEN_DAYS) / speed


def plan_mishaps(totesys: Totesys, start: datetime) -> Iterator[Event]:
    """Yield, time and again, a row that does not fit its declaration, a deletion, and the correction of the row."""
    for begins in (start + number * _MISHAPS_EVERY for number in count()):
        yield Event(begins + _MISTYPED_AFTER, totesys.mistype_date)
        yield Event(begins + _CANCELLED_AFTER, totesys.cancel_order)
        yield Event(begins + _CORRECTED_AFTER, totesys.correct_dates)


def follow(events: Iterable[Event]) -> Iterator[object]:
    """Apply each event at its time, and yield what that returns. An event that is missed by a minute is left out."""
    for event in events:
        if event.at > now() - _TOO_LATE:
            while (seconds := (event.at - now()).total_seconds()) > 0:
                sleep(min(seconds, 30))
            yield event.apply(event.at)


def now() -> datetime:
    """Return the time in UTC, without a time zone, as totesys writes it."""
    return datetime.now(UTC).replace(tzinfo=None)
