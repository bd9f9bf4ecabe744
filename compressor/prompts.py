"""A question as a model's own chat template writes it, and its answer behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from compressor.evaluate.example import Example

_PROBE = "yes"


def conversation(example: Example) -> list[dict[str, Any]]:
    """The chat messages that ask an example's question."""
    parts = [{"type": "image"}, {"type": "text", "text": example.prompt}]
    return [{"role": "user", "content": parts}]


def render(processor: Any, example: Example) -> str:
    """The prompt's text, by the model's own chat template."""
    text = processor.apply_chat_template(conversation(example), add_generation_prompt=True)
    assert isinstance(text, str)
    return text


def adds_special_tokens(processor: Any, text: str) -> bool:
    """Whether the tokenizer is to put its own beginning before a prompt: not twice.

    As in transformers (`ProcessorMixin.apply_chat_template`): LLaVA-1.5's template leaves it out, and
    without it the model lacks the position that its attention rests on.
    """
    start = processor.tokenizer.bos_token
    return start is None or not text.startswith(start)


def answer_lead(processor: Any, example: Example) -> str:
    """What the template puts between a prompt and its answer: LLaVA-1.5's a space, Qwen's nothing.

    With it an answer begins with the token that the model would say: `ASSISTANT: yes` is one of
    `▁yes`, `ASSISTANT:yes` is not. Nothing where the template takes no answers.
    """
    prompt = render(processor, example)
    answer = {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}
    try:
        whole = processor.apply_chat_template([*conversation(example), answer])
    except (TemplateError, TypeError):  # of templates that want text, or no answers at all
        return ""
    lead, found, _ = whole.removeprefix(prompt).partition(_PROBE)
    return lead if found and whole.startswith(prompt) and not lead.strip() else ""


def answered(processor: Any, chosen: Sequence[Example], *, ending: str = "") -> list[str]:
    """Prompts with their answers behind them, and an ending behind that."""
    return [prompt + answer for prompt, answer in _parts(processor, chosen, ending)]


def _parts(processor: Any, chosen: Sequence[Example], ending: str) -> list[tuple[str, str]]:
    """Each prompt, and what follows it."""
    lead = answer_lead(processor, chosen[0]) if chosen else ""
    return [(render(processor, e), lead + e.answer + ending) for e in chosen]


def answer_lengths(processor: Any, chosen: Sequence[Example], *, ending: str = "") -> list[int]:
    """Tokens that each answer with its ending adds to its prompt.

    Not those of the answer alone: by itself it may begin with another token than behind the prompt.
    """

    def length(text: str) -> int:
        special = adds_special_tokens(processor, text)
        return len(processor.tokenizer.encode(text, add_special_tokens=special))

    return [
        length(prompt + answer) - length(prompt)
        for prompt, answer in _parts(processor, chosen, ending)
    ]
