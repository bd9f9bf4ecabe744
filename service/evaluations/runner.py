"""Asks a dataset's questions of served models, one evaluation at a time, and lets clients go first."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from redis import Redis
from redis.exceptions import RedisError

from compressor.errors import Cancelled, CompressorError
from compressor.evaluate.answers import AnswerLog, Question
from compressor.evaluate.datasets import examples
from compressor.evaluate.endpoint import Retry
from compressor.evaluate.session import Served, ask
from compressor.evaluate.summary import Summary, summarise
from service.evaluations.keep import keep
from service.evaluations.records import FINAL, EvaluationRecord, EvaluationRecords
from service.registry import Registry
from service.rollout.lease import Lease
from service.rollout.replicas import Replicas
from service.settings import Settings

log = structlog.get_logger()
RECORD_EVERY_S = 1.0
LOW_PRIORITY = {"x-infoprune-priority": "low"}
LEASE_S = 30.0
ATTEMPTS = 20  # of one question: workers may restart meanwhile


class Turns:
    """Waits until few clients are being answered; called before every question."""

    def __init__(
        self, client_requests: Callable[[], int], limit: int, *, every_s: float = 0.25
    ) -> None:
        self._client_requests, self._limit, self._every_s = client_requests, limit, every_s
        self._looked, self._busy = float("-inf"), True

    async def __call__(self) -> None:
        """Return once it is this question's turn."""
        while True:
            if time.monotonic() - self._looked >= self._every_s:
                self._looked = time.monotonic()
                self._busy = await asyncio.to_thread(self._is_busy)
            if not self._busy:
                return
            await asyncio.sleep(self._every_s)

    def _is_busy(self) -> bool:
        try:
            return self._client_requests() >= self._limit
        except RedisError:
            return True  # nobody knows how many there are


class EvaluationRunner:
    """Call `run_next` again and again. What was answered before a crash is not asked again."""

    def __init__(self, redis: Redis, settings: Settings, owner: str) -> None:
        self._redis, self._settings, self._owner = redis, settings, owner
        self._records = EvaluationRecords(redis, ttl_s=settings.job_ttl_s)
        self._registry, self._replicas = Registry(redis), Replicas(redis)

    def run_next(self) -> bool:
        """Run the oldest evaluation that nobody runs; False where there is none.

        Raises:
            RedisError: Redis is away.
        """
        waiting = [r for r in self._records.list() if r.status not in FINAL]
        for record in reversed(waiting):
            key = f"infoprune:evaluation-lease:{record.id}"
            lease = Lease(self._redis, key, self._owner, ttl_s=LEASE_S)
            if lease.hold() is not None:
                try:
                    self._run(record, lease)
                finally:
                    lease.release()
                return True
        return False

    def _run(self, record: EvaluationRecord, lease: Lease) -> None:
        """Run one; whatever happens, its record says so in one sentence."""
        log.info("evaluation begins", id=record.id, models=record.models)
        directory = self._settings.run_dir / "evaluations" / record.id
        try:
            summary = self._ask(record, lease, directory)
        except Cancelled:
            log.info("evaluation stopped", id=record.id)
        except CompressorError as error:
            self._records.update(record.id, status="failed", error=str(error), ended=time.time())
        except RedisError:
            raise
        except Exception as error:  # the evaluation's boundary: whoever wanted it is told
            log.exception("evaluation failed", id=record.id)
            sentence = f"It failed unexpectedly: {type(error).__name__}: {error}"[:300]
            self._records.update(record.id, status="failed", error=sentence, ended=time.time())
        else:
            self._finish(record, summary)
        shutil.rmtree(directory, ignore_errors=True)

    def _ask(self, record: EvaluationRecord, lease: Lease, directory: Path) -> Summary:
        asked = {
            name: examples(name, "test", samples=record.samples, seed=record.seed)
            for name in record.datasets
        }
        progress = _Progress(self._records, record.id, lease)
        side = Served(
            self._settings.gateway_url,
            record.models,
            self._settings.api_key,
            self._settings.evaluation_concurrency,
            Retry(attempts=ATTEMPTS),
            turn=Turns(self._client_requests, self._settings.evaluation_yields_at),
            headers=LOW_PRIORITY,
        )
        with AnswerLog(directory) as answers:
            said = ask(side, asked, answers, started=progress.started, advance=progress.advance)
        return summarise(asked, said, seed=record.seed)

    def _client_requests(self) -> int:
        """Requests under way in all gateways, less those that may be this evaluation's own."""
        under_way = sum(sum(r.in_flight.values()) for r in self._replicas.alive())
        return max(0, under_way - self._settings.evaluation_concurrency)

    def _finish(self, record: EvaluationRecord, summary: Summary) -> None:
        report = summary.to_json()
        done = self._records.update(
            record.id,
            status="finished",
            report=report,
            ended=time.time(),
            answered=_answers(summary),
        )
        if not done:
            return
        keep(self._registry, summary.accuracy, summary.difference, evaluation=record.id)
        log.info("evaluation finished", id=record.id)


class _Progress:
    """Counts answers, renews the lease, and stops an evaluation that was cancelled or is another's."""

    def __init__(self, records: EvaluationRecords, evaluation_id: str, lease: Lease) -> None:
        self._records, self._id, self._lease = records, evaluation_id, lease
        self._total = self._answered = 0
        self._last = 0.0

    def started(self, total: int, known: int) -> None:
        self._total, self._answered = total, known
        self._write(status="running", total=total, answered=known, started=time.time())

    def advance(self, question: Question) -> None:
        del question
        self._answered += 1
        if time.monotonic() - self._last >= RECORD_EVERY_S:
            self._write(answered=self._answered)

    def _write(self, **changes: object) -> None:
        self._last = time.monotonic()
        try:
            ours = self._lease.hold() is not None and self._records.update(self._id, **changes)
        except RedisError:
            return  # the answers are on disk; the next write will do
        if not ours:
            raise Cancelled


def _answers(summary: Summary) -> int:
    return sum(i.n for accuracy in summary.accuracy.values() for i in accuracy.values())
