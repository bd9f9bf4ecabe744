"""What is trained, for how long, on which questions."""

from __future__ import annotations

from dataclasses import dataclass

from models.training.batches import Mix


@dataclass(frozen=True)
class Phase:
    """A stretch of steps in which the learning rate warms up, stays, and falls to 0."""

    steps: int
    mixes: tuple[tuple[float, Mix], ...]  # (up to which share of the steps, what a batch holds)
    tower: bool = False  # train the vision tower alone, by its probes
    patches: bool = False  # the tower learns from what each patch shows, alone or with the rest

    def lr(self, index: int, *, peak: float, warmup: int = 100, decay_share: float = 0.4) -> float:
        """The learning rate of the phase's step `index`."""
        left = (self.steps - index) / max(1.0, decay_share * self.steps)
        return peak * min(1.0, (index + 1) / warmup) * min(1.0, left)

    def mix(self, index: int) -> Mix:
        """What the batch of the phase's step `index` holds."""
        return next(mix for until, mix in self.mixes if index < until * self.steps)


@dataclass(frozen=True)
class Schedule:
    """What is trained, for how long, on which questions.

    First the vision tower learns alone to name shape and colour; then, as LLaVA's own recipe has it,
    the tower is frozen and projector and decoder learn to answer. Negated questions are rare at
    first: in equal shares they make yes and no a parity of two things not yet learned. Left to
    themselves, yes/no questions about colours end as "absent", right seven times in nine; the third
    phase asks mostly those, in equal parts of yes and no (docs/log.md).

    Then signs and scenes come in: the tower learns what each patch shows (shape, colour, letter, place
    of the letter), and in the end everything learns together, the tower still told of its patches.
    """

    seed: int = 7
    peak_lr: float = 4e-4
    phases: tuple[Phase, ...] = ()

    @property
    def steps(self) -> int:
        """All steps, of every phase."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step's index in it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise ValueError(f"the schedule ends after {self.steps} steps")

    def lr(self, step: int) -> float:
        """The learning rate of a step."""
        phase, index = self.at(step)
        return phase.lr(index, peak=self.peak_lr)


_SINGLE = (
    Phase(steps=800, mixes=((1.0, Mix(images=32)),), tower=True),
    Phase(steps=2400, mixes=((0.45, Mix(images=16, negated_share=0.15)), (1.0, Mix(images=16)))),
    Phase(
        steps=1200,
        mixes=(
            (0.6, Mix(16, questions=8, negated_share=0.25, presence_share=0.8, color_share=0.8)),
            (1.0, Mix(16, questions=8, presence_share=0.8, color_share=0.6)),
        ),
    ),
)
_PATCHES = Mix(32, questions=1, reading_share=0.6, scenes_share=0.4)
_EVERYTHING = Mix(16, presence_share=0.7, color_share=0.6, reading_share=0.35, scenes_share=0.5)

PUBLISHED = Schedule(phases=_SINGLE)
"""The model in `models/shapes-llava`: one shape a picture."""
ALL = Schedule(
    phases=(
        *_SINGLE,
        Phase(steps=1500, mixes=((1.0, _PATCHES),), tower=True, patches=True),
        Phase(steps=12000, mixes=((1.0, _EVERYTHING),), patches=True),
    )
)
"""Signs and scenes too; not yet good enough to be published."""
