"""The gateway as OpenAI's own client sees it."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.support.servers import wait_until


@pytest.fixture
def client(gateway: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key="unused", max_retries=0) as found:
        yield found


def question(text: str, *, url: str | None = None) -> list[Any]:
    if url is None:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def test_models_are_listed_and_described(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "asleep"]
    assert client.models.retrieve("tiny").owned_by == "infoprune"


def test_a_question_is_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=question("red?"))
    assert answer.choices[0].message.content == "yes"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 90


def test_a_stream_is_passed_on_without_what_was_not_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="tiny", messages=question("red?"), stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "yes"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_usage_if_it_was_asked_for(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model="tiny",
        messages=question("red?"),
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.usage is not None
    assert last.usage.completion_tokens == 2


def test_an_unknown_model_is_told_which_exist(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="models: tiny, asleep") as caught:
        client.chat.completions.create(model="huge", messages=question("?"))
    assert caught.value.code == "model_not_found"


def test_a_model_whose_worker_starts_asks_for_patience(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="it is starting") as caught:
        client.chat.completions.create(model="asleep", messages=question("?"))
    assert caught.value.status_code == 503


def test_an_image_by_a_private_url_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="an address that is not public") as caught:
        client.chat.completions.create(
            model="tiny", messages=question("?", url="http://127.0.0.1/secret.png")
        )
    assert caught.value.code == "invalid_image"
    assert caught.value.param == "messages[0].content[0].image_url"


def test_the_answer_says_which_model_served_it(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=question("?"))
    assert raw.headers["x-infoprune-model"] == "tiny"
    assert raw.headers["x-infoprune-variant"] == "original"


def test_the_engines_own_refusals_are_passed_on(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.chat.completions.create(model="tiny", messages=question("reject"))


def test_an_engine_that_does_not_answer_is_given_up(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="within 2 s") as caught:
        client.chat.completions.create(model="tiny", messages=question("hang"))
    assert caught.value.status_code == 504


def test_a_stream_that_breaks_off_says_so(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="tiny", messages=question("break"), stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        list(stream)


def test_a_client_that_leaves_ends_its_request_at_the_engine(
    client: openai.OpenAI, fake_engine: str
) -> None:
    before = int(get(f"{fake_engine}/cancelled"))
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="tiny", messages=question("hang")
        )
    wait_until(lambda: int(get(f"{fake_engine}/cancelled")) == before + 1, timeout_s=1.5)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_request"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b" " * 100_001, 413, "body_too_large"),
    ],
)
def test_a_bad_body_gets_one_sentence_in_openais_shape(
    gateway: str, body: bytes, status: int, code: str
) -> None:
    request = urllib.request.Request(f"{gateway}/v1/chat/completions", body, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    with caught.value as response:
        error = json.loads(response.read())["error"]
    assert (response.status, error["code"]) == (status, code)
    assert error["message"].endswith(".")


def test_metrics_tell_original_answers_and_failures(client: openai.OpenAI, gateway: str) -> None:
    client.chat.completions.create(model="tiny", messages=question("red?"))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="asleep", messages=question("?"))

    text = get(f"{gateway}/metrics")

    served = {"model": "tiny", "variant": "original"}
    assert metric(text, "infoprune_requests_total", **served, status="200") == 1
    assert metric(text, "infoprune_tokens_total", **served, kind="prompt") == 90
    assert metric(text, "infoprune_request_latency_seconds_count", **served) == 1
    assert metric(text, "infoprune_ready_workers", **served) == 1
    asleep = {"model": "asleep", "variant": "original"}
    assert metric(text, "infoprune_errors_total", **asleep, reason="model_not_ready") == 1


def metric(text: str, name: str, **labels: str) -> float:
    """The one sample of that name and those labels."""
    families = text_string_to_metric_families(text)
    (found,) = (
        s.value for f in families for s in f.samples if (s.name, s.labels) == (name, labels)
    )
    return float(found)


def test_readiness_says_which_models_can_be_asked(gateway: str) -> None:
    content = json.loads(get(f"{gateway}/ready"))
    assert content == {
        "ready": True,
        "models": {"tiny": True, "asleep": False},
        "store": "reachable",
    }


def test_an_unknown_path_is_answered_in_openais_shape(gateway: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"{gateway}/v1/embeddings")
    with caught.value as response:
        assert json.loads(response.read())["error"]["code"] == "not_found"
