"""Prompts and answers in the tokens of a model like LLaVA-1.5, whose template lacks the beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoProcessor, PreTrainedTokenizerFast

from compressor.evaluate.example import Example
from compressor.inputs import prepare, token_weights
from compressor.prompts import answer_lead, answer_lengths, render
from tests.support.random_vlm import write_random_vlm

LLAVA_1_5 = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]


def example(answer: str) -> Example:
    return Example("1", "how many ?", (answer,), "exact", lambda: Image.new("RGB", (64, 64)))


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small LLaVA's processor with SentencePiece's ways: words begin with their space, digits stand
    alone, and the tokenizer, not the template, puts `<s>` first."""
    directory: Path = tmp_path_factory.mktemp("models") / "tiny"
    write_random_vlm(directory, "clip-llama")
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(True)]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    text = [
        "USER: how many ? Answer the question using a single word or phrase. ASSISTANT: yes no 2"
    ]
    backend.train_from_iterator(text * 9, trainers.BpeTrainer(special_tokens=SPECIAL))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    found = AutoProcessor.from_pretrained(directory)
    found.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    found.chat_template = LLAVA_1_5
    found.image_token_id = found.tokenizer.convert_tokens_to_ids("<image>")
    return found


def test_the_beginning_that_the_template_lacks_is_there_once(processor: Any) -> None:
    assert not render(processor, example("yes")).startswith("<s>")
    ids = prepare(processor, [example("yes")])[0]["input_ids"][0].tolist()
    assert ids[0] == processor.tokenizer.bos_token_id
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_the_beginning_that_the_template_writes_is_there_once(processor: Any) -> None:
    processor.chat_template = "{{ bos_token }}" + LLAVA_1_5
    try:
        ids = prepare(processor, [example("yes")])[0]["input_ids"][0].tolist()
    finally:
        processor.chat_template = LLAVA_1_5
    assert ids.count(processor.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("answer", ["yes", "2", "no 2"])
@pytest.mark.parametrize("ending", ["", "</s>"])
def test_an_answer_is_what_the_model_would_say_and_its_length_is_its_tokens_there(
    processor: Any, answer: str, ending: str
) -> None:
    asked = example(answer)
    prompt = prepare_prompt(processor, asked)
    ids = prepare(processor, [asked], ending=ending)[0]["input_ids"][0].tolist()
    (length,) = answer_lengths(processor, [asked], ending=ending)
    assert answer_lead(processor, asked) == " "
    assert ids[:-length] == prompt
    said = processor.tokenizer.convert_ids_to_tokens(ids[-length:])
    assert said[0].startswith("▁"), "behind `ASSISTANT:` a word begins with its space"
    assert processor.tokenizer.decode(ids[-length:], skip_special_tokens=True).strip() == answer


def prepare_prompt(processor: Any, asked: Example) -> list[int]:
    """The tokens of the prompt alone, the image's places filled in, as generation begins with."""
    inputs = processor(images=asked.image(), text=render(processor, asked), return_tensors="pt")
    return list(inputs["input_ids"][0].tolist())


def test_the_positions_that_count_as_answers_are_one_before_each_of_its_tokens(
    processor: Any,
) -> None:
    asked = example("no 2")
    batches = prepare(processor, [asked])
    (length,) = answer_lengths(processor, [asked])
    (weights,) = token_weights(batches, [length], processor.image_token_id)
    decided = weights[-length - 1 : -1].unique()
    assert len(decided) == 1
    assert float(decided[0]) == pytest.approx(1 / 3 / (length + 1))


def test_a_template_that_takes_no_answers_puts_nothing_before_them(processor: Any) -> None:
    refusing = "{% if messages | length > 1 %}{{ raise_exception('no answers') }}{% endif %}"
    processor.chat_template = refusing + LLAVA_1_5
    try:
        assert answer_lead(processor, example("yes")) == ""
    finally:
        processor.chat_template = LLAVA_1_5


def test_the_bundled_model_answers_right_behind_the_colon() -> None:
    assert answer_lead(AutoProcessor.from_pretrained("models/shapes-llava"), example("yes")) == ""
