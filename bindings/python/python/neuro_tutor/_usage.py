"""How much owners may use, and what they used."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, List, Mapping, Optional, Union

from ._record import Record, record
from ._settings import encode

Day = Union[date, str]
"""A day of UTC: a date, or a text such as `2026-11-26`."""


@record(frozen=True)
class Quota(Record):
    """How much each owner may use in a day of UTC; None for any amount.

    A turn reserves what it may need before the provider is asked. What does not fit raises
    `RateLimitedError`, whose `context` has the `limit`, its `quota`, what is `remaining` and the seconds
    until its `reset`.
    """

    turns_per_day: Optional[int] = None
    tokens_per_day: Optional[int] = None
    """Tokens sent and received."""
    cost_usd_per_day: Optional[float] = None
    """US dollars, for models whose price is known."""
    upload_bytes_per_day: Optional[int] = None
    """Bytes of uploaded files."""


@record(frozen=True)
class DayUsage(Record):
    """What one owner used in one day."""

    _readers = {"day": date.fromisoformat}

    owner: str
    day: date
    """Of UTC: the one in which a turn began."""
    turns: int = 0
    """Turns that have ended."""
    failed_turns: int = 0
    """Of them, those that failed or were interrupted."""
    cancelled_turns: int = 0
    """Of them, those that were cancelled."""
    input_tokens: int = 0
    """Tokens sent, by the providers' count, or by estimate where they did not say."""
    output_tokens: int = 0
    """Tokens received, likewise."""
    cost_usd: float = 0.0
    """US dollars, of models whose price is known."""
    first_token_ms: Optional[int] = None
    """Milliseconds to the first word, on average; None if there was none."""
    thumbs_up: int = 0
    """Thumbs up for replies, given on this day."""
    thumbs_down: int = 0
    """Thumbs down, likewise."""
    upload_bytes: int = 0
    """Bytes of files that were uploaded, whether they are still there or not."""


@record(frozen=True)
class Status(Record):
    """How a tutor is, over all owners."""

    store: str
    """The kind of its store, for people."""
    location: str
    """Where its data is, without credentials."""
    durability: str
    """What an acknowledged write survives: `none`, the end of the `process`, or a loss of `power` too."""
    live_turns: int = 0
    """Replies that are being written now."""
    recovered_turns: int = 0
    """Turns that a crash had left running, and that this tutor ended."""


def days(since: Optional[Day], until: Optional[Day]) -> str:
    """Days as the native module takes them."""
    return encode({"from": _day(since), "to": _day(until)})


def _day(day: Optional[Day]) -> Optional[str]:
    return day.strftime("%Y-%m-%d") if isinstance(day, date) else day


def read_days(text: str) -> List[DayUsage]:
    """What the native module tells of days."""
    return [DayUsage.from_dict(day) for day in json.loads(text)]


def quota_of(quota: Optional[Union[Quota, Mapping[str, Any]]]) -> Optional[Mapping[str, Any]]:
    """A quota as the native module takes it."""
    return quota.to_dict() if isinstance(quota, Quota) else quota
