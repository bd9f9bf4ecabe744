"""What a change of the registry is decided on: models, aliases and the revision, as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.errors import AliasNotFoundError, ModelInUseError, ModelNotFoundError
from service.registry import ALIASES_KEY, MODELS_KEY, REVISION_KEY, ModelEntry
from service.rollout.records import Alias


@dataclass(frozen=True)
class Known:
    """Everything that a change may depend on."""

    models: dict[str, ModelEntry]
    aliases: dict[str, Alias]
    revision: int

    def alias(self, name: str) -> Alias:
        """One alias.

        Raises:
            AliasNotFoundError: there is none of that name.
        """
        if name not in self.aliases:
            raise AliasNotFoundError(name, sorted(self.aliases))
        return self.aliases[name]

    def model(self, name: str) -> ModelEntry:
        """One model.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        if name not in self.models:
            raise ModelNotFoundError(name, sorted(self.models))
        return self.models[name]

    @property
    def active(self) -> set[str]:
        """Models that an alias may point to."""
        return {name for name, entry in self.models.items() if entry.state == "active"}


def read_known(pipe: Any) -> Known:
    """What is known, on a pipeline that watches it."""
    models = pipe.hgetall(MODELS_KEY).values()
    aliases = pipe.hgetall(ALIASES_KEY).values()
    entries = [ModelEntry.model_validate_json(value) for value in models]
    named = [Alias.model_validate_json(value) for value in aliases]
    revision = int(pipe.get(REVISION_KEY) or 0)
    return Known({e.name: e for e in entries}, {a.name: a for a in named}, revision)


def unused_model(known: Known, name: str, action: str) -> ModelEntry:
    """A model that no alias points to.

    Raises:
        ModelNotFoundError: there is none of that name.
        ModelInUseError: an alias points to it; `action` is what was to be done.
    """
    entry = known.model(name)
    users = sorted(alias.name for alias in known.aliases.values() if name in alias.models)
    if users:
        raise ModelInUseError(
            f"The alias {users[0]!r} points to the model {name!r}; point it elsewhere before you "
            f"{action} the model."
        )
    return entry
