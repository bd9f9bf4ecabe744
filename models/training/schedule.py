"""What is trained, for how long, on which questions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from compressor.evaluate.generated import scenes
from models.training import captions
from models.training.batches import Mix

Tower = Literal["alone", "frozen", "learning"]
"""What the tower does in a phase: it learns alone by its probes, stays, or learns with the rest."""


@dataclass(frozen=True)
class Phase:
    """A stretch of steps in which the learning rate warms up, stays, and falls to 0."""

    steps: int
    mixes: tuple[tuple[float, Mix], ...]  # (up to which share of the steps, what a batch holds)
    tower: Tower = "frozen"
    peak: float = 1.0  # of the schedule's peak learning rate
    decay_share: float = 0.4  # of the steps, the last ones: the rate falls
    align: bool = False  # patches with the words for what they show

    def lr(self, index: int, *, peak: float, warmup: int = 100) -> float:
        """The learning rate of the phase's step `index`."""
        left = (self.steps - index) / max(1.0, self.decay_share * self.steps)
        return peak * self.peak * min(1.0, (index + 1) / warmup) * min(1.0, left)

    def mix(self, index: int) -> Mix:
        """What the batch of the phase's step `index` holds."""
        return next(mix for until, mix in self.mixes if index < until * self.steps)


@dataclass(frozen=True)
class Schedule:
    """What is trained, for how long, on which questions.

    First the vision tower learns alone, from what each patch shows (shape, colour, letter, place);
    then, as LLaVA's own recipe has it, the tower is frozen while projector and decoder learn to
    describe and to answer; in the end everything learns together, the tower still told of its
    patches. Negated questions are rare at first: in equal shares they make yes and no a parity of two
    things not yet learned. Left to themselves, yes/no questions about the colour of a single shape end
    as "absent", right seven times in nine, so most of them are about colours (docs/log.md).
    """

    seed: int = 7
    peak_lr: float = 5e-4
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


_PATCHES = Mix(32, questions=1, reading_share=0.5, scenes_share=0.3)
_FIRST = Mix(
    16,
    questions=7,
    negated_share=0.15,
    presence_share=0.7,
    color_share=0.7,
    reading_share=0.3,
    scenes_share=0.45,
    caption_share=0.8,
)
_LOOK_UP = replace(
    _FIRST,
    questions=9,
    negated_share=0.05,
    presence_share=0.85,
    reading_share=0.1,
    scenes_share=0.5,
    caption_share=0.4,
    scene_kinds=(captions.locate, captions.locate, scenes.exists, scenes.exists, scenes.count,
                 scenes.attribute),
)  # fmt: skip
_ALL = replace(_FIRST, negated_share=0.4, reading_share=0.2, scenes_share=0.5, caption_share=0.2)
_EVERYTHING = replace(_ALL, questions=9, negated_share=0.35, reading_share=0.15)
_RELATE = replace(
    _EVERYTHING,
    reading_share=0.1,
    scenes_share=0.7,
    scene_kinds=(captions.direct, captions.direct, scenes.relation, scenes.relation,
                 captions.locate, scenes.exists, scenes.logic, scenes.count, scenes.attribute),
)  # fmt: skip
_LAST = replace(
    _EVERYTHING,
    scenes_share=0.65,
    scene_kinds=(*scenes.KINDS, scenes.relation, scenes.exists, scenes.logic, captions.direct),
)

PUBLISHED = Schedule(
    phases=(
        Phase(steps=2200, mixes=((1.0, _PATCHES),), tower="alone", peak=1.6),
        Phase(steps=1300, mixes=((1.0, _FIRST),), decay_share=0.0),
        Phase(steps=1000, mixes=((1.0, _LOOK_UP),), decay_share=0.0),
        Phase(steps=300, mixes=((1.0, _ALL),), decay_share=0.0),
        Phase(steps=900, mixes=((1.0, _LOOK_UP),), decay_share=0.0, align=True),
        Phase(steps=2300, mixes=((1.0, _EVERYTHING),), decay_share=0.45, align=True),
        Phase(steps=900, mixes=((1.0, _RELATE),), tower="learning", peak=0.8, decay_share=0.0,
              align=True),
        Phase(steps=1700, mixes=((1.0, _LAST),), tower="learning", peak=0.8, decay_share=0.5,
              align=True),
    )
)  # fmt: skip
"""The model in `models/shapes-llava`."""
