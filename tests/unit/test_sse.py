from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.gateway.sse import UsageFilter


def event(**content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


ROLE = event(choices=[{"delta": {"role": "assistant", "content": ""}}], usage=None)
TOKEN = event(choices=[{"delta": {"content": "yes\u00e9"}}])
USAGE = event(choices=[], usage={"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92})
DONE = b"data: [DONE]\n\n"
STREAM = ROLE + TOKEN + b": keep-alive\n\n" + USAGE + DONE


@given(st.sets(st.integers(1, len(STREAM) - 1)), st.booleans())
def test_however_the_bytes_arrive_the_client_gets_the_same(cuts: set[int], keep: bool) -> None:
    events = UsageFilter(keep_usage=keep)
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]

    received = b"".join(events.feed(piece) for piece in pieces) + events.flush()

    assert received == (STREAM if keep else STREAM.replace(USAGE, b""))
    assert events.usage is not None
    assert (events.usage.prompt_tokens, events.usage.completion_tokens) == (90, 2)
    assert events.finished


def test_the_first_token_is_not_the_chunk_that_names_the_role() -> None:
    events = UsageFilter(keep_usage=False)
    events.feed(ROLE)
    assert not events.content_seen
    events.feed(TOKEN)
    assert events.content_seen


def test_what_is_no_completion_passes_as_it_came() -> None:
    events = UsageFilter(keep_usage=False)
    odd = b'data: {"error": {"message": "x"}}\n\ndata: not json\n\n'
    assert events.feed(odd) == odd
    assert events.feed(b"data: cut") == b""
    assert events.flush() == b"data: cut"


def test_events_that_end_in_crlf_are_not_held_back() -> None:
    events = UsageFilter(keep_usage=False)
    for event in (ROLE, TOKEN, DONE):
        crlf = event.replace(b"\n", b"\r\n")
        assert events.feed(crlf) == crlf
    assert events.finished


def test_text_is_gathered_where_it_is_wanted() -> None:
    events = UsageFilter(keep_usage=False, keep_text=True)
    events.feed(ROLE + TOKEN)
    events.feed(TOKEN + event(choices=[{"text": "!"}]))
    assert "".join(events.text) == "yes\u00e9yes\u00e9!"
