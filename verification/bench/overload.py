"""
Bench (j): the receiver under overload.

First a burst: callbacks arrive over hundreds of connections at two receivers, while a proxy before the API
server answers some of the creates 429, as the API server does to a client that sends too much. The client
repeats each callback until it is answered 200. Afterwards each of them must have its event, and each other
answer must have been a 503 with a Retry-After.

Then a lasting overload, in turns with a moderate load: one receiver gets many more callbacks than it can
record. A refused client pauses as the Retry-After says, and sends another callback. Goodput is the number of
callbacks that are recorded per second; it is compared with the highest one at a moderate load. The same is
measured with an API server that takes only few creates per second, where a callback that waits for its turn
would wait longer than its request may take. Each load begins some seconds before its measurement.

The clients are separate processes. The API server has cores that neither they nor the receiver use, as in
a cluster.

    .venv/bin/python -m verification.bench.overload [--count 10000] [--connections 500] [--rounds 6] \
        [--seconds 6]
"""

import argparse
import asyncio
import itertools
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from counterfoil.kube.client import connect
from counterfoil.resources import EnvelopeEvent
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import run as run_command
from sandbox.environment.api_proxy import api_proxy, kubeconfig_through
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.proxies import Instead, Passage, Proxy, Ticks, TrapPoint
from verification.bench.big_and_many import VALUES, memory_limit
from verification.bench.machine import CoreSplit, ProcessMemory
from verification.bench.receiver import (
    NAMESPACE,
    UNLIMITED,
    KeepAliveConnection,
    callbacks,
    create_organization,
    new_envelope_ids,
    status_of,
)
from verification.bench.setup import REPOSITORY, plane_on_cores
from verification.bench.spread import Spread, order_of_turn, verdict

MIN_GOODPUT = 0.9
"""Of the peak."""

REFUSED_OF = 3
"""One of this number of creates is answered 429 in the burst."""

SLOW_RATE = 50.0
"""Creates per second that the slow API server takes."""

BURST_PAUSE = 1.0
"""Seconds after which a refused callback of the burst is sent again: sooner than its Retry-After."""

RAMP = 0.9
"""Part of the time before a measurement in which the clients start."""

TIMEOUT = 900.0  # seconds for the whole run


# -- The clients: separate processes -------------------------------------------------------------------------


class BurstJob(msgspec.Struct, frozen=True, tag=True):
    """Send callbacks of new envelopes to several receivers, each until it is answered 200."""

    urls: tuple[str, ...]
    count: int
    connections: int
    pause: float


class LoadJob(msgspec.Struct, frozen=True, tag=True):
    """Keep this number of callbacks in flight, and measure for ``seconds`` after the first ``lead`` ones."""

    url: str
    in_flight: int
    lead: float
    seconds: float


class Answers(msgspec.Struct):
    """The answers of one job."""

    recorded: int = 0
    """Answers 200."""
    refused: int = 0
    """Answers 503 with a Retry-After."""
    wrong: dict[str, int] = {}
    """Number of other answers, by what they were."""
    seconds: float = 0.0
    latencies: list[float] = []
    """Seconds until each answer 200."""
    envelopes: list[str] = []
    """Of the answers 200, in a burst."""

    def add(self, head: bytes, latency: float) -> bool:
        """Count one answer; return whether it is 200. An empty head is a connection that broke."""
        status = status_of(head) if head else 0
        if status == 200:
            self.recorded += 1
            self.latencies.append(latency)
        elif status == 503 and retry_after(head):
            self.refused += 1
        else:
            what = "503 without Retry-After" if status == 503 else str(status or "no answer")
            self.wrong[what] = self.wrong.get(what, 0) + 1
        return status == 200


def retry_after(head: bytes) -> int:
    """Return the seconds of the Retry-After of an answer, 0 if it has none."""
    found = re.search(rb"\r\nretry-after: (\d+)\r\n", head, re.IGNORECASE)
    return int(found[1]) if found else 0


@dataclass
class Caller:
    """One client, which sends a callback after the other."""

    url: str
    connection: KeepAliveConnection

    @classmethod
    async def of(cls, url: str) -> "Caller":
        """Connect."""
        return cls(url, await KeepAliveConnection.open(url))

    async def call(self, envelope: str) -> tuple[bytes, float]:
        """Send a callback; return the head of the answer, empty if there is none, and the seconds."""
        started = time.perf_counter()
        try:
            head = await self.connection.ask(callbacks([envelope])[0])
        except ConnectionError:
            head, self.connection = b"", await KeepAliveConnection.open(self.url)
        return head, time.perf_counter() - started


async def send_burst(job: BurstJob) -> Answers:
    """Send all callbacks at once, and the refused ones again, until each was answered 200."""
    answers, waiting, started = Answers(), deque(new_envelope_ids(job.count)), time.perf_counter()

    async def call_until_all_are_recorded(url: str) -> None:
        caller = await Caller.of(url)
        while answers.recorded < job.count:
            if not waiting:
                # Another connection has the last ones, and may be refused.
                await asyncio.sleep(0.02)
                continue
            envelope = waiting.popleft()
            if answers.add(*await caller.call(envelope)):
                answers.envelopes.append(envelope)
            else:
                waiting.append(envelope)
                await asyncio.sleep(job.pause)

    async with asyncio.TaskGroup() as group:
        for url in itertools.islice(itertools.cycle(job.urls), job.connections):
            group.create_task(call_until_all_are_recorded(url))
    answers.seconds = time.perf_counter() - started
    return answers


async def send_load(job: LoadJob) -> Answers:
    """Send callbacks for the time of the job, and wait for the last answers, which are not counted."""
    answers = Answers(seconds=job.seconds)
    callers = [await Caller.of(job.url) for _ in range(job.in_flight)]
    begin = time.perf_counter() + job.lead
    end = begin + job.seconds

    async def call_until_the_end(caller: Caller, start: float) -> None:
        before = Answers()
        await asyncio.sleep(start - time.perf_counter())
        while time.perf_counter() < end:
            answer = await caller.call(new_envelope_ids(1)[0])
            counted = answers if begin <= time.perf_counter() < end else before
            if not counted.add(*answer):
                await asyncio.sleep(min(retry_after(answer[0]), max(0.0, end - time.perf_counter())))

    async with asyncio.TaskGroup() as group:
        for number, caller in enumerate(callers):
            # One after the other, so that those that are refused do not come again all at once.
            start = begin - job.lead * (1 - RAMP * number / len(callers))
            group.create_task(call_until_the_end(caller, start))
    return answers


async def in_client(job: BurstJob | LoadJob) -> Answers:
    """Do a job in a separate process. Raises ``RuntimeError``."""
    command = [sys.executable, "-m", "verification.bench.overload", "--client"]
    ended = await run_command(command, cwd=REPOSITORY, stdin=msgspec.json.encode(job).decode())
    if ended.code:
        raise RuntimeError(f"the client ended with status {ended.code}: {ended.err}")
    return msgspec.json.decode(ended.out, type=Answers)


async def _client(job: BurstJob | LoadJob) -> Answers:
    return await (send_burst(job) if isinstance(job, BurstJob) else send_load(job))


# -- The API server that takes less --------------------------------------------------------------------------


def is_create(passage: Passage) -> bool:
    """Whether a request creates an event."""
    return passage.method == "POST" and passage.path.endswith("/envelopeevents")


def refuse_creates(proxy: Proxy, one_of: int) -> None:
    """Let one of this number of creates be answered 429, as by the API server's priority levels."""
    creates = itertools.count(1)

    async def refuse() -> None:
        text = b"Too many requests, please try again later."
        raise Instead(429, text, "text/plain", {"Retry-After": "1"})

    proxy.trap(
        lambda passage: is_create(passage) and next(creates) % one_of == 0,
        TrapPoint.ARRIVED,
        refuse,
        times=None,
    )


class Pace:
    """Lets at most ``rate`` requests per second pass, one after the other."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may pass, and let it pass then."""
        passes_at = max(now, self._free_at)
        self._free_at = passes_at + 1 / self._rate
        return passes_at - now


def slow_creates(proxy: Proxy, rate: float) -> None:
    """Let at most this number of creates per second pass."""
    pace = Pace(rate)

    async def wait() -> None:
        await asyncio.sleep(pace.delay(time.monotonic()))

    proxy.trap(is_create, TrapPoint.ARRIVED, wait, times=None)


# -- The burst -----------------------------------------------------------------------------------------------


class BurstResult(msgspec.Struct, frozen=True):
    """Course of a burst."""

    count: int
    answers: Answers
    lost: int
    """Number of callbacks that were answered 200 and have no event."""
    events: int
    memory: float
    """MiB of a receiver at most."""


async def measure_burst(
    built: LocalEnvironment, *, count: int, connections: int, pause: float = BURST_PAUSE
) -> BurstResult:
    """Send a burst to two receivers whose API server refuses some of the creates."""
    async with api_proxy(built.plane, Ticks()) as proxy:
        running = [await receiver_through(built, proxy, f"burst-{each}") for each in range(2)]
        refuse_creates(proxy, REFUSED_OF)
        urls = tuple(each.public for each in running)
        answers = await in_client(BurstJob(urls, count, connections, pause))
        memory = max(ProcessMemory.of(each.pid).peak for each in running)
        await asyncio.gather(*(each.stop() for each in running))
    async with connect(namespace=built.namespace, kubeconfig=built.plane.kubeconfig) as kube:
        stored = Counter([each["spec"]["envelopeID"] async for each in kube.list(EnvelopeEvent)])
    lost = len(set(answers.envelopes) - set(stored))
    return BurstResult(count, answers, lost, stored.total(), memory)


async def receiver_through(built: LocalEnvironment, proxy: Proxy, name: str) -> CounterfoilProcess:
    """Start a receiver behind a proxy."""
    path = built.folder / f"{name}.kubeconfig"
    await kubeconfig_through(proxy, built.plane, "receiver", built.namespace, path)
    return await built.receiver(name, kubeconfig=path, **UNLIMITED)


# -- The lasting overload ------------------------------------------------------------------------------------


class Scenario(msgspec.Struct, frozen=True):
    """Loads of one receiver."""

    title: str
    """Of its API server."""
    moderate: tuple[int, ...]
    """Callbacks in flight whose highest goodput is the peak."""
    overload: tuple[int, ...]
    lead: float
    """Seconds of overload before its measurement: more than a Retry-After."""
    is_slow: bool = False


MODERATE_LEAD = 1.0
SCENARIOS = (
    Scenario("as fast as it can be", (32, 64), (1000, 4000), lead=12.0),
    Scenario(f"{SLOW_RATE:.0f} creates per s", (64,), (2000,), lead=12.0, is_slow=True),
)


class ScenarioResult(msgspec.Struct, frozen=True):
    """Course of the loads of one receiver."""

    scenario: Scenario
    rounds: Mapping[int, Sequence[Answers]]
    """By number of callbacks in flight."""
    memory: float
    """MiB at most."""

    def of_peak(self, in_flight: int) -> Spread:
        """
        Return the goodput of the rounds with this number in flight, of the peak in the same rounds.

        The peak is the moderate load with the highest median. The highest load of each round would be the one
        that was lucky in that round.
        """
        moderate = ([each.recorded for each in self.rounds[number]] for number in self.scenario.moderate)
        peak = max(moderate, key=statistics.median)
        return Spread.of_ratios((each.recorded for each in self.rounds[in_flight]), peak)


async def measure_scenario(
    built: LocalEnvironment, scenario: Scenario, *, rounds: int, seconds: float
) -> ScenarioResult:
    """Measure all loads in turns."""
    name = "slow" if scenario.is_slow else "fast"
    found: dict[int, list[Answers]] = {each: [] for each in (*scenario.moderate, *scenario.overload)}
    async with api_proxy(built.plane, Ticks()) as proxy:
        if scenario.is_slow:
            slow_creates(proxy, SLOW_RATE)
            receiver = await receiver_through(built, proxy, name)
        else:
            receiver = await built.receiver(name, kubeconfig=None, **UNLIMITED)
        for turn in range(rounds):
            # The API server needs more CPU for a create as it grows.
            for in_flight in order_of_turn(found, turn):
                lead = scenario.lead if in_flight in scenario.overload else MODERATE_LEAD
                found[in_flight].append(await in_client(LoadJob(receiver.public, in_flight, lead, seconds)))
        memory = ProcessMemory.of(receiver.pid).peak
        await receiver.stop()
    return ScenarioResult(scenario, found, memory)


# -- The run -------------------------------------------------------------------------------------------------


def report(burst: BurstResult, results: Sequence[ScenarioResult], limit: float) -> str:
    """Return the Markdown, ratios first."""
    lines = [
        "| API server | in flight | of the peak | target | | recorded per s | refused per s | p50 s "
        "| p99 s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for in_flight, done in result.rounds.items():
            ratio = result.of_peak(in_flight)
            is_met = ratio.median >= MIN_GOODPUT
            judged = (
                f">= {MIN_GOODPUT} | {verdict(is_met)}" if in_flight in result.scenario.overload else " | "
            )
            recorded, refused = (
                Spread.of(getattr(each, figure) / each.seconds for each in done).text()
                for figure in ("recorded", "refused")
            )
            p50, p99 = _quantiles([one for each in done for one in each.latencies])
            lines.append(
                f"| {result.scenario.title} | {in_flight} | {ratio.text(2)} | {judged} | {recorded} | "
                f"{refused} | {p50:.2f} | {p99:.2f} |"
            )
    wrong = Counter(burst.answers.wrong)
    for each in (one for result in results for done in result.rounds.values() for one in done):
        wrong.update(each.wrong)
    memory = max(burst.memory, *(each.memory for each in results))
    kinds = "".join(f", {number} times {what}" for what, number in wrong.items())
    return "\n".join(
        [
            f"- a burst of {burst.count:,} callbacks: {burst.lost} that were answered 200 have no event; "
            f"target 0: {verdict(not burst.lost and burst.events == burst.count)}",
            f"- answers of all loads that are neither 200 nor 503 with a Retry-After: {wrong.total()}{kinds}"
            f"; target 0: {verdict(not wrong)}",
            f"- memory of a receiver: at most {memory / limit:.2f} of the chart's limit, {memory:.0f} of "
            f"{limit:.0f} MiB; target < 1: {verdict(memory < limit)}",
            f"- {burst.events:,} events after the burst; {burst.answers.refused:,} answers 503 and "
            f"{burst.answers.seconds:.0f} s until each callback was recorded",
            "",
            *lines,
        ]
    )


def _quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    quantiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [float("nan")] * 99
    return quantiles[49], quantiles[98]


@asynccontextmanager
async def receivers_environment(
    plane: ControlPlane, folder: Path, namespace: str
) -> AsyncIterator[LocalEnvironment]:
    """Set up a namespace with one organization and no controller."""
    async with local_environment(plane, folder, namespace=namespace, public_authorities=True) as built:
        await create_organization(plane, namespace)
        yield built


async def run(count: int, connections: int, *, rounds: int, seconds: float) -> str:
    """Run it all, with the API server on cores that the others do not use, and return the report."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        plane = await stack.enter_async_context(plane_on_cores(CoreSplit.separate()))
        built = await stack.enter_async_context(receivers_environment(plane, folder, NAMESPACE))
        burst = await measure_burst(built, count=count, connections=connections)
        results = [await measure_scenario(built, each, rounds=rounds, seconds=seconds) for each in SCENARIOS]
    return (
        f"{count:,} callbacks over {connections} connections to 2 receivers, 1 of {REFUSED_OF} creates "
        f"answered 429; {rounds} rounds of {seconds:.0f} s of each load\n\n"
        f"{report(burst, results, memory_limit(VALUES.read_text(), 'receiver'))}"
    )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        job = msgspec.json.decode(sys.stdin.buffer.read(), type=BurstJob | LoadJob)
        print(msgspec.json.encode(uvloop.run(_client(job))).decode())
    else:
        # The proxy is in this process.
        print(uvloop.run(run(chosen.count, chosen.connections, rounds=chosen.rounds, seconds=chosen.seconds)))


if __name__ == "__main__":
    main()
