"""Owns which batches run on this gateway: claims those that nobody works on, renews their leases, ends them in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from services.gateway.batches.book import Batch
from services.gateway.batches.job import Job, Means
from services.gateway.batches.ledger import LeaseLost
from services.gateway.store.database import STORE_FAILURES, cause_of
from shared.tracebacks import where

MOST_JOBS = 16  # batches that run at once on a gateway; more wait, but for a tenant's first
SWEEP_S = 3600.0  # how often expired files are removed


class BatchRunner:
    """Runs batches from `start` to `close`. A gateway that dies before leaves them to others, or to its next life."""

    def __init__(self, means: Means, *, beat_s: float) -> None:
        """`beat_s`: how often leases are renewed and new batches are looked for; well under the lease."""
        self._means = means
        self._beat_s = beat_s
        self._jobs: dict[str, Job] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._beating = asyncio.create_task(self._repeat())
        self._sweeping = asyncio.create_task(self._sweep())

    def wake(self) -> None:
        """Something has changed in the store: look now."""
        self._woken.set()

    async def close(self) -> None:
        """Abort what runs, and leave the batches to others at once."""
        if self._beating is None or self._sweeping is None:
            return
        tasks, held = [self._beating, self._sweeping, *self._tasks.values()], list(self._jobs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._means.ledger.release(held)
        except STORE_FAILURES as error:  # then the leases run out
            self._means.log.error("batches_not_released", cause=cause_of(error))

    async def _repeat(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._beat()
            except Exception as error:  # whatever it is, the next beat may succeed
                self._means.log.error("batches_not_tended", cause=cause_of(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):
                    await self._woken.wait()

    async def _beat(self) -> None:
        if self._jobs:
            self._tend(await self._means.ledger.renew(list(self._jobs)))
        held = Counter(job.tenant for job in self._jobs.values())
        room = max(0, MOST_JOBS - len(self._jobs))
        for batch in await self._means.ledger.claim(room, held=held):
            if batch.id in self._jobs:  # that lost its lease, and has not ended yet
                await self._means.ledger.release([batch.id])
            else:
                self._begin(batch)

    async def _sweep(self) -> None:
        """Beside the beat, which must not wait for it."""
        while True:
            try:
                await self._means.files.sweep()
            except Exception as error:  # whatever it is, the next sweep may succeed
                self._means.log.error("files_not_swept", cause=cause_of(error))
            await asyncio.sleep(SWEEP_S)

    def _tend(self, held: Mapping[str, Batch]) -> None:
        """Stop the jobs whose lease is lost, and have those end that were cancelled or whose time is over."""
        for batch_id, job in self._jobs.items():
            batch = held.get(batch_id)
            if batch is None:
                self._tasks[batch_id].cancel()
            elif batch.status == "cancelling" or self._means.now() >= batch.expires_at:
                job.end_early()

    def _begin(self, batch: Batch) -> None:
        job = Job(batch, self._means)
        if self._means.now() >= batch.expires_at:
            job.end_early()
        self._jobs[batch.id] = job
        self._tasks[batch.id] = asyncio.create_task(self._run(job))
        self._means.log.info("batch_claimed", batch=batch.id, tenant=batch.tenant, status=batch.status)

    async def _run(self, job: Job) -> None:
        """A job that fails keeps its lease, and so is not tried again before the lease runs out, here or elsewhere."""
        log = self._means.log
        try:
            await job.run()
            log.info("batch_left", batch=job.id)
        except* LeaseLost:
            log.warning("batch_lease_lost", batch=job.id)
        except* Exception as failures:
            log.error("batch_interrupted", batch=job.id, causes=[where(error) for error in failures.exceptions])
        finally:
            del self._jobs[job.id], self._tasks[job.id]
            self.wake()
