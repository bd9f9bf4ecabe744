"""A key's limits, held by several gateways that hear of each other now and then. Pure.

Every `EXCHANGE_S` each gateway tells the others, through Redis, what it let in since, and hears the
same of them; in between it decides alone, so that no request waits for Redis and none is refused
that the limit allows. What that can cost is bounded:

- requests at one time (`most_at_once`): each gateway may fill the limit before it has heard of
  the others, so with g gateways g times the limit, once. Having heard of each other they let in
  nothing until the sum is under the limit, and then share what is free;
- requests in any window of time (`most_in_window`): beyond burst and rate, each further gateway
  may let in a burst and what two exchanges' time brings at the full rate. It is a debt that later
  requests wait for, so that over longer times the rate holds exactly.

A gateway that hears nothing for `STALE_S` goes on with its own share of both limits (`alone`, `share`).
"""

from __future__ import annotations

from dataclasses import replace

from service.routing.rate import Rate

EXCHANGE_S = 0.25
STALE_S = 2.0
"""Who was not heard of for so long is not counted any more, and counts nobody else."""


def ceiling(most: int, own: int, others: int, gateways: int) -> int:
    """How many requests a gateway may have under way until the next exchange.

    Args:
        most: the key's limit.
        own: requests that this gateway has under way.
        others: those that the other gateways said they have.
        gateways: how many gateways there are, this one included.

    Returns:
        The limit where only this gateway is in use; else `own` and an even share of what is free,
        at least one if anything is.
    """
    if not others:
        return most
    free = most - own - others
    return own + (max(1, free // gateways) if free > 0 else 0)


def share(most: int, gateways: int) -> int:
    """What one of several gateways may have under way while it hears nothing; at least one."""
    return max(1, most // gateways)


def alone(rate: Rate, gateways: int) -> Rate:
    """The rate of one of several gateways while it hears nothing; at least one request at once."""
    return replace(
        rate, per_minute=rate.per_minute / gateways, burst=max(1.0, rate.burst / gateways)
    )


def most_at_once(most: int, gateways: int) -> int:
    """What all gateways together may have under way at worst: where none has heard of another yet."""
    return gateways * most


def most_in_window(
    rate: Rate, gateways: int, window_s: float, heard_s: float = EXCHANGE_S
) -> float:
    """What all gateways together may let in at worst within a window of time, in requests.

    Args:
        rate: the key's limit.
        gateways: how many.
        window_s: seconds.
        heard_s: the longest time from one exchange of a gateway to its next, its own duration included.
    """
    own = rate.burst + window_s / rate.interval_s
    unheard = rate.burst + 2 * heard_s / rate.interval_s
    return own + (gateways - 1) * unheard


def deepest_debt_s(rate: Rate, gateways: int) -> float:
    """How far ahead of the clock the common account may be, seconds; more is a clock that was set."""
    return most_in_window(rate, gateways, 0.0, STALE_S) * rate.interval_s
