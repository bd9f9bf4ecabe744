"""Changes of aliases and of models' states, in Redis: all or nothing, each recorded, none lost.

A change reads both hashes under WATCH, decides, and writes in one transaction that Redis refuses when
either hash was written meanwhile; then it is decided anew. Two writers can so never lose one another's
change, and no model can be retired while another writer points an alias at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import WatchError

from service.errors import (
    AliasStateError,
    ModelInUseError,
    NameTakenError,
)
from service.registry import ALIASES_KEY, MODELS_KEY, REVISION_KEY, ModelEntry
from service.rollout.changes import check_targets
from service.rollout.known import Known, read_known, unused_model
from service.rollout.records import Alias, By, Change

HISTORY_KEY = "infoprune:history"
HISTORY_KEPT = 1000


@dataclass(frozen=True)
class Fence:
    """A lease that must still be held when a change is written."""

    key: str
    token: str


class LostLeaseError(Exception):
    """Another process holds the lease now; nothing was changed."""


class RolloutStore:
    """Aliases, the life of models, and the history of both. Synchronous: call it in a thread."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def set_alias(
        self, name: str, make: Callable[[Alias | None], Alias], by: By, what: str = "set"
    ) -> Alias:
        """Create an alias or change it.

        Args:
            name: of the alias.
            make: from the alias as it is, None for a new one, to what it shall be.
            by: who changes it, and why.
            what: for the history.

        Raises:
            NameTakenError: a model has that name.
            AliasStateError, UnknownTargetError: the change is impossible.
        """

        def decide(known: Known) -> tuple[Alias, Any]:
            before = known.aliases.get(name)
            if before is None and name in known.models:
                raise NameTakenError(name)
            after = make(before)
            check_targets(after, known.active)
            return after, (before, after)

        return self._write_alias(decide, by, what)

    def change_alias(
        self,
        name: str,
        change: Callable[[Alias], Alias],
        by: By,
        what: str,
        *,
        version: int | None = None,
        fence: Fence | None = None,
    ) -> Alias:
        """Change an alias that exists.

        Args:
            name: of the alias.
            change: a function of `service/rollout/changes.py`.
            by: who changes it, and why.
            what: for the history, such as "roll back".
            version: the version that the decision was made for; another one is refused.
            fence: a lease without which nothing is written.

        Raises:
            AliasNotFoundError: there is none of that name.
            AliasStateError, UnknownTargetError: the change is impossible.
            LostLeaseError: the fence's lease is another's.
        """

        def decide(known: Known) -> tuple[Alias, Any]:
            before = known.alias(name)
            if version is not None and before.version != version:
                raise AliasStateError(
                    f"The alias {name!r} was changed meanwhile: it has version {before.version}, not "
                    f"{version}; look again."
                )
            after = change(before)
            check_targets(after, known.active)
            return after, (before, after)

        return self._write_alias(decide, by, what, fence)

    def delete_alias(self, name: str, by: By) -> Alias:
        """Forget an alias.

        Raises:
            AliasNotFoundError: there is none of that name.
            AliasStateError: its canary is running.
        """

        def write(pipe: Any) -> Alias:
            before = read_known(pipe).alias(name)
            if before.canary is not None:
                raise AliasStateError(f"A canary is running on {name!r}; roll it back first.")
            pipe.multi()
            pipe.hdel(ALIASES_KEY, name)
            _record(pipe, by, "delete", "alias", name, before=before)
            return before

        deleted: Alias = self._transaction(write)
        return deleted

    def retire(self, name: str, by: By) -> ModelEntry:
        """Give a model no new requests; its worker is stopped once it has drained.

        Raises:
            ModelNotFoundError: there is none of that name.
            ModelInUseError: an alias points to it.
        """

        def change(known: Known) -> ModelEntry:
            entry = unused_model(known, name, "retire")
            if entry.state != "active":
                return entry
            return entry.model_copy(
                update={
                    "state": "retiring",
                    "retired_at": time.time(),
                    "retired_revision": known.revision + 1,
                }
            )

        return self._write_model(name, change, by, "retire")

    def drained(self, name: str, by: By, *, fence: Fence | None = None) -> ModelEntry:
        """A retiring model is retired: nobody asks it any more.

        Raises:
            ModelNotFoundError: there is none of that name.
            LostLeaseError: the fence's lease is another's.
        """

        def change(known: Known) -> ModelEntry:
            entry = known.model(name)
            update = {"state": "retired"} if entry.state == "retiring" else {}
            return entry.model_copy(update=update)

        return self._write_model(name, change, by, "drained", fence)

    def delete_model(self, name: str, by: By) -> ModelEntry:
        """Forget a retired model.

        Raises:
            ModelNotFoundError: there is none of that name.
            ModelInUseError: an alias points to it, or it is not retired.
        """

        def write(pipe: Any) -> ModelEntry:
            entry = unused_model(read_known(pipe), name, "delete")
            if entry.state != "retired":
                first = (
                    "retire it first" if entry.state == "active" else "wait until it has drained"
                )
                raise ModelInUseError(
                    f"The model {name!r} is {entry.state}; {first}, then delete it."
                )
            pipe.multi()
            pipe.hdel(MODELS_KEY, name)
            _record(pipe, by, "delete", "model", name, before=entry)
            return entry

        deleted: ModelEntry = self._transaction(write)
        return deleted

    def history(self, *, kind: str | None = None, name: str | None = None) -> list[Change]:
        """Changes, newest first; of one alias or model where it is named."""
        lines: Any = self._redis.lrange(HISTORY_KEY, 0, -1)
        changes = [Change.model_validate_json(line) for line in lines]
        return [
            c
            for c in changes
            if (kind is None or c.kind == kind) and (name is None or c.name == name)
        ]

    def _write_alias(
        self,
        decide: Callable[[Known], tuple[Alias, Any]],
        by: By,
        what: str,
        fence: Fence | None = None,
    ) -> Alias:
        def write(pipe: Any) -> Alias:
            _check(pipe, fence)
            after, (before, _) = decide(read_known(pipe))
            pipe.multi()
            pipe.hset(ALIASES_KEY, after.name, after.model_dump_json())
            _record(pipe, by, what, "alias", after.name, before=before, after=after)
            return after

        written: Alias = self._transaction(write, fence)
        return written

    def _write_model(
        self,
        name: str,
        change: Callable[[Known], ModelEntry],
        by: By,
        what: str,
        fence: Fence | None = None,
    ) -> ModelEntry:
        def write(pipe: Any) -> ModelEntry:
            _check(pipe, fence)
            known = read_known(pipe)
            before, after = known.model(name), change(known)
            pipe.multi()
            if before != after:
                pipe.hset(MODELS_KEY, name, after.model_dump_json())
                _record(pipe, by, what, "model", name, before=before, after=after)
            return after

        written: ModelEntry = self._transaction(write, fence)
        return written

    def _transaction(self, write: Callable[[Any], Any], fence: Fence | None = None) -> Any:
        """Decide and write until nobody wrote in between."""
        keys = [MODELS_KEY, ALIASES_KEY, *([fence.key] if fence else [])]
        with self._redis.pipeline(transaction=True) as pipe:
            watching: Any = pipe  # half-typed
            while True:
                try:
                    watching.watch(*keys)
                    result = write(pipe)
                    pipe.execute()
                except WatchError:
                    continue
                return result


def _record(
    pipe: Any,
    by: By,
    what: str,
    kind: str,
    name: str,
    *,
    before: Alias | ModelEntry | None = None,
    after: Alias | ModelEntry | None = None,
) -> None:
    """Queue a line of the history, and count the change."""
    line = Change.model_validate(
        {
            "when": time.time(), "who": by.who, "why": by.why, "what": what, "kind": kind,
            "name": name, "version": after.version if isinstance(after, Alias) else None,
            "before": before.model_dump(mode="json", exclude={"former"}) if before else None,
            "after": after.model_dump(mode="json", exclude={"former"}) if after else None,
        }
    )  # fmt: skip
    pipe.incr(REVISION_KEY)
    pipe.lpush(HISTORY_KEY, line.model_dump_json())
    pipe.ltrim(HISTORY_KEY, 0, HISTORY_KEPT - 1)


def _check(pipe: Any, fence: Fence | None) -> None:
    if fence is not None and pipe.get(fence.key) != fence.token.encode():
        raise LostLeaseError
