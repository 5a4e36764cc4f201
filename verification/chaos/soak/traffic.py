"""
The load of a soak test on the running processes: envelopes that end in eSAW, repeated callbacks, and requests
that no envelope causes.
"""

import asyncio
import heapq
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import httpx

from verification.chaos.soak import load
from verification.chaos.soak.accounts import Accounts
from verification.chaos.stage import Stage

NO_ANSWER: Final = 0
TRANSIENT: Final = frozenset({NO_ANSWER, 429, 503})
"""Answers that a fault explains."""


@dataclass
class Traffic:
    """Carries out the steps of the load, and counts the answers."""

    stage: Stage
    accounts: Accounts
    http: httpx.AsyncClient
    seed: int
    envelopes: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """Number of requests by kind and answer."""
    violations: list[str] = field(default_factory=list)
    _repeats: list[tuple[float, str]] = field(default_factory=list)
    """When to repeat the callback of which envelope; a heap."""
    _requests: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Take one step after the other at a fixed rate."""
        due = time.monotonic()
        for number, step in enumerate(load.steps(self.seed)):
            receiver = self.stage.receivers[number % len(self.stage.receivers)]
            envelope = await self.stage.send_envelope(step.order, receiver)
            self.envelopes += 1
            now = time.monotonic()
            for delay in step.repeats:
                heapq.heappush(self._repeats, (now + delay, envelope))
            while self._repeats and self._repeats[0][0] <= now:
                await self.stage.esaw.repeat_callback(heapq.heappop(self._repeats)[1])
            if step.request is not None:
                self._start(step.request, receiver.public)
            due += 1 / load.ENVELOPES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def end(self) -> None:
        """Wait for the answers to all requests."""
        while self._requests:
            await asyncio.gather(*self._requests)

    def _start(self, request: load.Request, address: str) -> None:
        task = asyncio.create_task(self._ask(request, address))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _ask(self, request: load.Request, address: str) -> None:
        envelope = str(uuid.UUID(int=random.getrandbits(128), version=4))
        path = request.path.format(token=self.stage.environment.tokens["acme"], envelope=envelope)
        try:
            answer = await self.http.request(
                request.method, f"{address}{path}", content=b"x" * request.body_bytes
            )
            status = answer.status_code
        except httpx.TransportError:
            status = NO_ANSWER
        self.answers[f"{request.kind}: {status or 'no answer'}"] += 1
        if status == 200 and request.kind == load.FOREIGN:
            self.accounts.foreign.add(envelope)
        elif status not in {request.status, *TRANSIENT}:
            self.violations.append(f"request: {request.kind} was answered {status}, not {request.status}")
