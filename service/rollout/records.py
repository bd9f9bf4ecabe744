"""What an alias is: weighted targets, a shadow, a canary; and the record of a change."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
FORMER_KEPT = 20
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Share = Annotated[float, Field(gt=0, le=1)]


class Frozen(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Target(Frozen):
    """A model that answers a share of an alias's requests."""

    model: str
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Relative to the other targets' weights."""


class Shadow(Frozen):
    """A candidate that gets copies of an alias's requests, off the client's path."""

    candidate: str
    share: Share = 0.25
    """Of the requests that are copied."""
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    """What the comparison's counters are kept under."""


class CanaryRules(Frozen):
    """When a canary climbs, and when it is rolled back; see docs/rollout.md."""

    steps: Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Field(min_length=1)] = (
        1.0, 5.0, 25.0, 50.0, 100.0,
    )  # fmt: skip
    """Percent of the alias's requests that the candidate answers, ascending."""
    mirror: Share = 0.25
    """Share of all requests that the other model gets a copy of, for the agreement."""
    min_samples: Annotated[int, Field(ge=1)] = 200
    """Answers of the candidate at each step before the next one."""
    min_agreement: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Agreement with the reference that must be shown."""
    max_error_increase: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """How much the error rate may exceed the reference's, absolute."""
    max_p95_increase: Annotated[float, Field(ge=0)] = 0.2
    """How much the 95th percentile of the latency may exceed the reference's, relative."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability that a candidate that keeps all three bounds is ever rolled back."""
    hold_s: Annotated[float, Field(ge=0)] = 60.0
    """Least time at each step, seconds."""


class Canary(Frozen):
    """A candidate on its way up."""

    candidate: str
    reference: str
    """The alias's one target when the canary began."""
    rules: CanaryRules
    step: int = 0
    step_started: float
    step_base: int = 0
    """Answers of the candidate when the step began."""
    started: float
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    """What the comparison's counters are kept under."""

    @property
    def percent(self) -> float:
        """Of the requests, to the candidate, now."""
        return self.rules.steps[self.step]

    @property
    def is_last_step(self) -> bool:
        """Whether there is nothing left to climb."""
        return self.step == len(self.rules.steps) - 1


class CanaryOutcome(Frozen):
    """How a canary ended."""

    candidate: str
    reference: str
    outcome: Literal["promoted", "rolled_back", "stopped"]
    percent: float
    reason: str
    ended: float
    id: str


class Setting(Frozen):
    """The lasting part of an alias, which a roll-back restores."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)]
    sticky: bool = True


class Alias(Setting):
    """A name that clients ask for, and who answers."""

    name: Name
    shadow: Shadow | None = None
    canary: Canary | None = None
    last_canary: CanaryOutcome | None = None
    former: tuple[Setting, ...] = ()
    """What a roll-back goes back to, the latest last."""
    version: int = 1
    updated: float = Field(default_factory=time.time)

    @property
    def models(self) -> frozenset[str]:
        """Every model that it points to."""
        found = {target.model for target in self.targets}
        if self.shadow is not None:
            found.add(self.shadow.candidate)
        if self.canary is not None:
            found |= {self.canary.candidate, self.canary.reference}
        return frozenset(found)

    @property
    def setting(self) -> Setting:
        """Its lasting part."""
        return Setting(targets=self.targets, sticky=self.sticky)


class By(Frozen):
    """Who changes something, and why."""

    who: str = "unknown"
    why: str = ""


class Change(Frozen):
    """One entry of the history."""

    when: float
    who: str
    why: str
    what: str
    """Such as `canary climbs to 5 %`."""
    kind: Literal["alias", "model"]
    name: str
    version: int | None = None
    """Of the alias, after the change."""
    before: dict[str, object] | None = None
    after: dict[str, object] | None = None
