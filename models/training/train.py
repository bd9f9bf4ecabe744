"""Train the bundled LLaVA on the CPU: the tower first, then everything, resumable at any step.

    python -m models.training.train            # train (or go on) and publish
    python -m models.training.train --publish  # only write models/shapes-llava from the last state

Every step's batch is a pure function of (seed, step); weights and optimizer go to
`runs/train/state.safetensors` every 100 steps. A run that is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from compressor.evaluate.generated.canvas import COLOR_NAMES, SHAPES
from models.training import shapes
from models.training.architecture import build_config, build_tokenizer
from models.training.batches import KINDS, Batch, Picture, held_out, make_batch, pack
from models.training.labels import FIELDS, IGNORED, TEXTS
from models.training.schedule import PUBLISHED, Schedule

STATE = "state.safetensors"
SAVE_EVERY_STEPS = 100
_ALIGNMENT_SCALE = 16.0
_FIELD_SHARES = {"letter": 3.0, "text": 2.0}  # the hardest fields count more


class Trainee(nn.Module):
    """The LLaVA with linear probes on its visual features, dropped when published."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.llava = LlavaForConditionalGeneration(build_config(self.tokenizer))
        width = self.llava.config.vision_config.hidden_size
        self.shape_probe = nn.Linear(width, len(shapes.SHAPES))
        self.color_probe = nn.Linear(width, len(shapes.COLORS))
        self.words = {
            field: word_ids(self.tokenizer, names)
            for field, names in (("shape", SHAPES), ("color", COLOR_NAMES), ("text", TEXTS))
        }
        self.patch_probes = nn.ModuleDict({k: nn.Linear(width, n) for k, n in FIELDS.items()})

    def visual_features(self, pixels: Tensor) -> Tensor:
        """(B, 64, width): the features LLaVA uses, from the last layer but one, without CLS."""
        tower = self.llava.model.vision_tower
        return tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]

    def probe_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """What the tower is taught: what patches show, and a single shape's kind and colour; scalar."""
        loss = self.patch_loss(features, batch)
        if (batch.shape_ids != IGNORED).any():
            pooled = features.mean(1)
            loss = loss + 0.5 * (
                F.cross_entropy(self.shape_probe(pooled), batch.shape_ids)
                + F.cross_entropy(self.color_probe(pooled), batch.color_ids)
            )
        return loss

    def patch_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of what each patch shows, mean over fields; scalar.

        Patches that show nothing count a fifth.
        """
        losses = []
        for number, (field, probe) in enumerate(self.patch_probes.items()):
            target = batch.patches[:, number]  # (B, 64)
            each = F.cross_entropy(
                probe(features).flatten(0, 1),
                target.flatten(),
                ignore_index=IGNORED,
                reduction="none",
            )
            weight = torch.where(target.flatten() > 0, 1.0, 0.2) * (target.flatten() != IGNORED)
            share = _FIELD_SHARES.get(field, 1.0)
            losses.append(share * (each * weight).sum() / weight.sum().clamp_min(1))
        return torch.stack(losses).mean()

    def alignment_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the words for what a patch shows, by cosine to the word embeddings; scalar.

        Looking a thing up means to match the words of a question with patches. Where a red circle's
        patch lies near the embeddings of "red" and "circle", one attention head can do that; left to
        itself, yes and no stayed at chance level for thousands of steps (docs/log.md).
        """
        words = F.normalize(self.llava.get_input_embeddings().weight, dim=1)
        visual = F.normalize(self.llava.model.multi_modal_projector(features).float(), dim=2)
        logits = (_ALIGNMENT_SCALE * visual @ words.T).log_softmax(2)  # (B, 64, vocabulary)
        losses = []
        for field, table in self.words.items():
            target = batch.patches[:, list(FIELDS).index(field)]  # (B, 64)
            shown = target > 0
            if shown.any():
                ids = table[target[shown] - 1]  # (N, 2)
                losses.append(-logits[shown].gather(1, ids).mean())
        return torch.stack(losses).mean() if losses else logits.sum() * 0

    def answer_logits(self, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (N, vocabulary) and targets (N,) at the N answer tokens of the batch."""
        llava = self.llava
        embeds = llava.get_input_embeddings()(batch.input_ids)
        visual = llava.model.multi_modal_projector(features)
        is_image = batch.input_ids == llava.config.image_token_index
        embeds = embeds.masked_scatter(is_image[..., None], visual.to(embeds.dtype))
        hidden = llava.model.language_model(
            inputs_embeds=embeds,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        answers = batch.targets != -100
        return llava.lm_head(hidden[answers]), batch.targets[answers]


def word_ids(tokenizer: Any, words: Sequence[str]) -> Tensor:
    """(words, 2): the last token of each word, as it begins an answer and within a sentence."""
    return torch.tensor([[tokenizer.encode(f"{s}{w}")[-1] for s in ("", " ")] for w in words])


def train_step(
    model: Trainee, optimizer: torch.optim.Optimizer, schedule: Schedule, step: int
) -> dict[str, float]:
    """One optimizer step; returns what the log records."""
    phase, index = schedule.at(step)
    batch = make_batch(model.tokenizer, phase.mix(index), seed=schedule.seed, step=step)
    with torch.set_grad_enabled(phase.tower != "frozen"):
        features = model.visual_features(batch.pixels)
        probe_loss = model.probe_loss(features, batch)
    record, loss = {"probe_loss": probe_loss.item()}, probe_loss
    if phase.tower != "alone":
        logits, targets = model.answer_logits(features, batch)
        answer_loss = F.cross_entropy(logits, targets)
        record["answer_loss"] = answer_loss.item()
        aligned = model.alignment_loss(features, batch) if phase.align else torch.zeros(())
        record["alignment_loss"] = aligned.item()
        loss = (
            answer_loss + 0.5 * aligned + (0.3 * probe_loss if phase.tower == "learning" else 0.0)
        )
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr(step)
    optimizer.zero_grad(set_to_none=True)  # parameters without a gradient are not moved
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return record


@torch.no_grad()
def accuracy(model: Trainee, pictures: list[Picture]) -> float:
    """Teacher-forced accuracy: the share of questions whose every answer token is the argmax."""
    right = asked = 0
    for start in range(0, len(pictures), 16):
        batch = pack(model.tokenizer, pictures[start : start + 16])
        logits, targets = model.answer_logits(model.visual_features(batch.pixels), batch)
        hits = (logits.argmax(-1) == targets).tolist()
        ends = (targets == model.tokenizer.eos_token_id).tolist()
        whole = True
        for hit, end in zip(hits, ends, strict=True):
            whole = whole and hit
            if end:
                right, asked, whole = right + whole, asked + 1, True
    return right / asked


def save_state(model: Trainee, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Weights, optimizer moments and the next step, replaced in one rename."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step)})
    temporary.replace(path)


def load_state(model: Trainee, optimizer: torch.optim.Optimizer, path: Path) -> int:
    """Restore what `save_state` wrote; returns the next step, 0 where there is no state."""
    if not path.exists():
        return 0
    tensors = load_file(path)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def build(schedule: Schedule) -> tuple[Trainee, torch.optim.Optimizer]:
    """A freshly initialised model (from the seed) and its optimizer."""
    torch.manual_seed(schedule.seed)
    model = Trainee()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.peak_lr, betas=(0.9, 0.95), weight_decay=0.02
    )
    return model, optimizer


def train(schedule: Schedule, run: Path, *, bf16: bool = False) -> Trainee:
    """Train from the last saved state to the end; the log is `run/log.jsonl`.

    With `bf16` matrix products are computed in bf16, weights and optimizer stay float32: twice as fast
    on a CPU that has instructions for it, many times slower on one that has none.
    """
    run.mkdir(parents=True, exist_ok=True)
    model, optimizer = build(schedule)
    first = load_state(model, optimizer, run / STATE)
    started = time.monotonic()
    with _open_log(run / "log.jsonl", first) as log:
        for step in range(first, schedule.steps):
            record: dict[str, float] = {"step": step, "lr": schedule.lr(step)}
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                record |= train_step(model, optimizer, schedule, step)
            done = step + 1
            if done % SAVE_EVERY_STEPS == 0 or done == schedule.steps:
                if schedule.at(step)[0].tower != "alone":
                    record |= {k: accuracy(model, held_out(k, 64)) for k in KINDS}
                save_state(model, optimizer, done, run / STATE)
            if done % 10 == 0:
                pace = (time.monotonic() - started) / (done - first)
                record["left_s"] = round(pace * (schedule.steps - done))
                log.write(json.dumps(record) + "\n")
                log.flush()
    return model


def _open_log(path: Path, first: int) -> TextIO:
    """The log, open at its end, without records of steps that are about to be repeated."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(line for line in lines if json.loads(line)["step"] < first))
    return path.open("a")


def main() -> None:
    """Command line of `make train-model`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, default=Path("runs/train"), help="state and log")
    parser.add_argument("--out", type=Path, default=Path("models/shapes-llava"))
    parser.add_argument("--seed", type=int, default=PUBLISHED.seed)
    parser.add_argument("--bf16", action="store_true", help="on a CPU with bf16 instructions")
    parser.add_argument("--publish", action="store_true", help="write the model, train no further")
    args = parser.parse_args()
    schedule = replace(PUBLISHED, seed=args.seed)
    if args.publish:
        model, optimizer = build(schedule)
        load_state(model, optimizer, args.run / STATE)
    else:
        model = train(schedule, args.run, bf16=args.bf16)
    from models.training.publish import publish

    publish(model, schedule, args.run, args.out)


if __name__ == "__main__":
    main()
