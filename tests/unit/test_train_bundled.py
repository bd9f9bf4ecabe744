"""How the bundled model is taught: phases and rates, what learns when, going on in the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from compressor.evaluate.generated.canvas import COLOR_NAMES
from compressor.evaluate.metrics import Interval
from compressor.loading import load
from models.training import publish, train
from models.training.batches import KINDS, Batch, Mix, held_out, make_batch
from models.training.schedule import PUBLISHED, Phase, Schedule
from models.training.train import Trainee, accuracy, build, load_state, save_state, train_step

SMALL = Mix(2, questions=2, reading_share=0.5, scenes_share=0.5, caption_share=0.5)
BRIEF = Schedule(
    phases=(
        Phase(steps=1, mixes=((1.0, SMALL),), tower="alone"),
        Phase(steps=1, mixes=((1.0, SMALL),), align=True),
        Phase(steps=2, mixes=((1.0, SMALL),), tower="learning", align=True),
    )
)


@pytest.fixture(scope="module")
def untrained() -> Trainee:
    return build(BRIEF)[0]


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two held-out pictures of each kind in place of 64: what the log says is not asked here."""
    monkeypatch.setattr(train, "held_out", lambda kind, _: held_out(kind, 2))


def changed(before: dict[str, Tensor], after: dict[str, Tensor], prefix: str) -> bool:
    """Whether a parameter whose name begins so has moved."""
    return any(not torch.equal(before[k], after[k]) for k in before if k.startswith(prefix))


@pytest.mark.parametrize("schedule", [BRIEF, PUBLISHED], ids=["brief", "published"])
def test_every_step_has_a_phase_and_a_batch_until_the_schedule_ends(schedule: Schedule) -> None:
    seen = [schedule.at(step) for step in range(schedule.steps)]
    assert [phase for phase, _ in seen] == [p for p in schedule.phases for _ in range(p.steps)]
    assert all(0 <= index < phase.steps for phase, index in seen)
    assert all(phase.mix(index).images > 0 for phase, index in seen)
    with pytest.raises(ValueError, match=f"ends after {schedule.steps} steps"):
        schedule.at(schedule.steps)


def test_the_rate_warms_up_stays_and_falls() -> None:
    phase = Phase(steps=1000, mixes=((1.0, SMALL),), peak=0.5, decay_share=0.4)
    rates = [phase.lr(step, peak=2.0) for step in range(1000)]
    assert rates[:99] == sorted(rates[:99])
    assert set(rates[99:601]) == {1.0}, "half of the schedule's peak, from warm-up to decay"
    assert rates[600:] == sorted(rates[600:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_the_tower_learns_alone_then_stays_then_learns_with_the_rest() -> None:
    model, optimizer = build(BRIEF)
    tower, rest = "llava.model.vision_tower", "llava.model.language_model"
    for step, (tower_moves, rest_moves) in enumerate([(True, False), (False, True), (True, True)]):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        record = train_step(model, optimizer, BRIEF, step)
        after = dict(model.state_dict())
        assert changed(before, after, tower) is tower_moves, step
        assert changed(before, after, rest) is rest_moves, step
        assert ("answer_loss" in record) is rest_moves, step


def test_steps_on_the_same_pictures_lower_the_loss() -> None:
    one = Phase(steps=30, mixes=((1.0, SMALL),), tower="learning", decay_share=0.0)
    schedule = Schedule(phases=(one,))
    model, optimizer = build(schedule)

    def same(tokenizer: Any, mix: Mix, *, seed: int, step: int) -> Batch:
        return make_batch(tokenizer, mix, seed=seed, step=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_batch", same)
        losses = [train_step(model, optimizer, schedule, step)["answer_loss"] for step in range(12)]
    assert losses[-1] < 0.9 * losses[0], "the rate still warms up"


def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_pictures: None
) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY_STEPS", 2)
    straight = train.train(BRIEF, tmp_path / "straight")

    def killed(model: Trainee, optimizer: Any, schedule: Schedule, step: int) -> dict[str, float]:
        if step == 3:
            raise KeyboardInterrupt
        return train_step(model, optimizer, schedule, step)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(BRIEF, tmp_path / "killed")
    with safe_open(tmp_path / "killed" / train.STATE, "pt") as file:
        assert file.metadata()["step"] == "2", "step 2 was done and is done again"
    resumed = train.train(BRIEF, tmp_path / "killed")

    theirs, ours = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    # Nothing is left to do, and nothing is done.
    finished = train.train(BRIEF, tmp_path / "killed").state_dict()
    assert all(torch.equal(finished[name], ours[name]) for name in ours)


def test_moments_of_the_optimizer_are_kept_too(tmp_path: Path) -> None:
    model, optimizer = build(BRIEF)
    assert load_state(model, optimizer, tmp_path / "none") == 0
    train_step(model, optimizer, BRIEF, 0)
    save_state(model, optimizer, 1, tmp_path / train.STATE)
    other, its = build(BRIEF)
    assert load_state(other, its, tmp_path / train.STATE) == 1
    first, second = optimizer.state_dict()["state"], its.state_dict()["state"]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k]["exp_avg"], second[k]["exp_avg"]) for k in first)
    assert [path.name for path in tmp_path.iterdir()] == [train.STATE]


def test_the_log_forgets_steps_that_are_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in (9, 19, 29)))
    with train._open_log(log, 20) as file:
        file.write(json.dumps({"step": 20}) + "\n")
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [9, 19, 20]


def test_an_answer_is_right_when_each_of_its_tokens_is(
    untrained: Trainee, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = 0

    def answers(_: Trainee, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = batch.targets[batch.targets != -100]
        logits = torch.nn.functional.one_hot(targets, 1000).float()
        logits[:wrong] = 0.0
        return logits, targets

    monkeypatch.setattr(Trainee, "answer_logits", answers)
    pictures = held_out("easy-vqa", 4)
    asked = sum(len(picture.questions) for picture in pictures)
    assert accuracy(untrained, pictures) == 1.0
    wrong = 1  # the first token of the first answer
    assert accuracy(untrained, pictures) == pytest.approx(1 - 1 / asked)


def test_words_are_looked_up_as_they_begin_and_within_a_sentence(untrained: Trainee) -> None:
    ids = train.word_ids(untrained.tokenizer, COLOR_NAMES)
    assert ids.shape == (len(COLOR_NAMES), 2)
    assert len(set(ids.flatten().tolist())) == 2 * len(COLOR_NAMES)


def test_what_is_published_loads_with_the_trained_weights(
    untrained: Trainee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {name: Interval(0.5, 0.4, 0.6, 10) for name in KINDS}
    monkeypatch.setattr(publish, "measure", lambda directory: measured)
    record = {"step": 99, "answer_loss": 1.5, **dict.fromkeys(KINDS, 0.25)}
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n")

    assert publish.publish(untrained, BRIEF, tmp_path, tmp_path / "model") == measured

    published = load(tmp_path / "model").state_dict()
    for name, value in untrained.llava.state_dict().items():
        assert torch.equal(published[name], value.to(torch.bfloat16)), name
    card = (tmp_path / "model" / "README.md").read_text()
    assert "0.5000 [0.4000, 0.6000] | 10" in card
    assert "| 100 | 1.5000 | 0.250 | 0.250 | 0.250 |" in card
