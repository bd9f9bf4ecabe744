"""Heal: train the compressed model for a few hundred steps with the original as its teacher.

Loss: the squared distance of hidden states from the original's, relative to their energy, + the
answers' cross-entropy. Of the final states those count where tokens of the answers are decided: what
the last layer says elsewhere nobody hears (L2 on final hidden states + task loss beat distilling logits
in arXiv 2604.24380). The stream behind every layer counts at every position: thousands of targets a
batch where the answers give a few dozen, so a higher rate does no harm. The task's loss counts a third:
where the original is wrong, its states teach to be wrong (docs/log.md has what was measured with and
without). All weights learn; there are no adapters to merge.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressor.inputs import mixture
from compressor.job import has_bf16
from compressor.loading import assemble
from compressor.massive import massive_weights, usual_energy
from compressor.recipe import Recipe, Recovery
from compressor.training import Batch, Batches, all_hidden, task_loss, warmup_cosine
from compressor.work import Work

_SAVE_EVERY = 50
_STATE = "heal/state.safetensors"


def heal(
    original: Path,
    candidate: Path,
    processor: Any,
    recipe: Recipe,
    work: Work,
    device: torch.device,
    *,
    advance: Callable[[float], None],
) -> nn.Module:
    """The candidate after `recipe.recovery.steps` steps; goes on from the last saved step.

    Args:
        original: the teacher's directory.
        candidate: the student's directory.
        processor: of both.
        recipe: its `recovery` section, its calibration datasets and its seed count here.
        work: keeps weights and optimizer, four times or every 50 steps.
        device: where both are trained; they are whole in memory, in float32.
        advance: hears the share of the steps that is done.
    """
    settings = recipe.recovery
    pool = mixture(recipe.calibration.datasets, samples=settings.samples, seed=recipe.seed + 1)
    batches = Batches(processor, pool, batch=settings.batch, seed=recipe.seed, device=device)
    teacher = assemble(original, torch.float32).to(device)
    student = assemble(candidate, torch.float32).to(device)
    optimizer = make_optimizer(student, settings)
    first = _load(work, student, optimizer)
    every = min(_SAVE_EVERY, max(1, settings.steps // 4))

    def keep(done: int) -> None:
        if done % every == 0 or done == settings.steps:
            _save(work, student, optimizer, done)
        advance(done / settings.steps)

    recover(student, teacher, batches, settings, optimizer, first=first, after=keep)
    return student


def make_optimizer(student: nn.Module, settings: Recovery) -> torch.optim.Optimizer:
    """AdamW over all weights of the student."""
    student.requires_grad_(True)
    return torch.optim.AdamW(
        student.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )


def recover(
    student: nn.Module,
    teacher: nn.Module,
    batches: Batches,
    settings: Recovery,
    optimizer: torch.optim.Optimizer,
    *,
    first: int = 0,
    after: Callable[[int], None] = lambda done: None,
) -> None:
    """Train a student in place, from step `first` on.

    Args:
        student: float32, on the batches' device.
        teacher: the original, float32, on the same device; not changed.
        batches: questions of the training splits.
        settings: steps, learning rate, weights of the terms.
        optimizer: of the student, see `make_optimizer`.
        first: how many steps are done already.
        after: hears the number of steps done, after each.
    """
    device = next(student.parameters()).device
    in_bf16 = has_bf16(device) if settings.bf16 is None else settings.bf16
    for step in range(first, settings.steps):
        batch = batches.at(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            loss = _loss(student, teacher, batch, settings)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * warmup_cosine(step, settings.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        after(step + 1)
    student.requires_grad_(False).eval()


def _loss(student: nn.Module, teacher: nn.Module, batch: Batch, settings: Recovery) -> Tensor:
    only_last = not settings.layer_weight
    with torch.no_grad():
        *inner, wanted = all_hidden(teacher, batch, only_last=only_last)
    *own, hidden = all_hidden(student, batch, only_last=only_last)
    told = batch.answers
    loss = settings.hidden_weight * relative_distance(hidden[:, :-1], wanted[:, :-1], told)
    if own:
        pairs = zip(own, inner, strict=True)
        gaps = [relative_distance(mine, theirs, batch.used) for mine, theirs in pairs]
        loss = loss + settings.layer_weight * torch.stack(gaps).mean()
    if settings.task_weight:
        loss = loss + settings.task_weight * task_loss(student, hidden, batch)
    return loss


def relative_distance(hidden: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """`E|h - h'|^2 / E|h'|^2` over positions that count; (B, T, D), (B, T, D), (B, T) bool.

    Positions with massive activations count less, see `compressor.massive`.
    """
    told = wanted[counted].float()
    energies = told.square().sum(1)
    weights = massive_weights(energies, usual_energy(energies, torch.ones_like(energies)))
    gaps = (hidden[counted].float() - told).square().sum(1)
    return (weights * gaps).sum() / (weights * energies).sum().clamp_min(1e-12)


def _save(work: Work, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.named_parameters()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    tensors["step"] = torch.tensor(step)
    work.save_tensors(_STATE, {k: v.detach().cpu() for k, v in tensors.items()})


def _load(work: Work, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the last saved step; returns how many are done."""
    if not work.has(_STATE):
        return 0
    tensors = work.load_tensors(_STATE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(tensors["step"])
