"""The bundled model's configuration, tokenizer and processor, in the hub's LLaVA layout."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, PreTrainedTokenizerFast

from compressor.evaluate.generated import reading, scenes
from models.training import captions, shapes

BOS, EOS, PAD, UNK, IMAGE = "<s>", "</s>", "<pad>", "<unk>", "<image>"
SUFFIX = "\nAnswer the question using a single word or phrase."
VOCABULARY = 832  # a multiple of 64; what the tokenizer leaves free is never said
IMAGE_TOKENS = 64  # 64x64 pixels in patches of 8x8
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# An answer follows `ASSISTANT:` without a space, as the model is taught.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set said = message['role'] == 'assistant' %}{% set end = eos_token if said else ' ' %}"
    "{{ message['role'].upper() + (':' if said else ': ') }}"
    "{% if message['content'] is string %}{{ message['content'] + end }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + end }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def prompt(question: str, *, suffix: bool = True) -> str:
    """The text that the chat template renders for one image and one question, without BOS."""
    return f"USER: {IMAGE}\n{question}{SUFFIX if suffix else ''} ASSISTANT:"


def _corpus() -> list[str]:
    """Every question about one shape, many about signs and scenes, and every word to be read.

    Words, numbers under 100 and places are repeated until each is a token of its own, as common
    words are in the tokenizers of published models.
    """
    single = {
        f"{prompt(q.text)}{q.answer}"
        for shape, color in itertools.product(shapes.SHAPES, shapes.COLOR_NAMES)
        for group in shapes.questions(shapes.Scene(shape, color))
        for q in group
    }
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1500):
        for asked in (
            scenes.ask(scenes.random_scene(rng), rng),
            reading.ask(reading.random_sign(rng), rng),
        ):
            drawn.append(f"{prompt(asked.text)}{asked.answer}")
    whole = [*reading.WORDS, *map(str, range(10, 100)), *captions.PLACES]
    return sorted(single) + drawn + whole * 40


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained on what is asked and answered; no text is unknown to it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[UNK, BOS, EOS, PAD, IMAGE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNK,
        extra_special_tokens={"image_token": IMAGE}, model_max_length=1024, padding_side="left",
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_config(tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """14 M parameters: CLIP tower 9x256 (8 layers used, as in LLaVA-1.5), Llama 8x256."""
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=9, num_attention_heads=8,
        image_size=shapes.SIZE_PX, patch_size=8, projection_dim=256, hidden_act="quick_gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=8, head_dim=32, max_position_embeddings=1024,
        rms_norm_eps=1e-5, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-2,
        vision_feature_select_strategy="default", projector_hidden_act="gelu",
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE), image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
    )  # fmt: skip


def save_processor(directory: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write tokenizer, image processor and LLaVA processor files, as hub checkpoints have them."""
    tokenizer.save_pretrained(directory)
    size = shapes.SIZE_PX
    image = {
        "image_processor_type": "CLIPImageProcessor", "crop_size": {"height": size, "width": size},
        "size": {"shortest_edge": size}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
        "image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD), "rescale_factor": 1 / 255,
    }  # fmt: skip
    processor = {
        "processor_class": "LlavaProcessor", "patch_size": 8, "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default", "image_token": IMAGE,
    }  # fmt: skip
    for name, content in (("preprocessor_config", image), ("processor_config", processor)):
        (directory / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
