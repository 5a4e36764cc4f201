"""
Ask eSAW who sent the envelopes that a search found, and record those of the user.

The search is eSAW's; an envelope that somebody shares with the user must not count as the user's own. One
question for each bulk, since its envelopes have one sender; some questions at once.

Each confirmed envelope is recorded at once, before the next question. So the next pass has fewer questions,
also if this one ends by its time. Those that confirmed nothing are asked last next time: an envelope that
can't be read, or an answer that does not come in time, keeps no other envelope waiting.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from counterfoil.esaw import EsawError, EsawUserClient, HttpStatusError
from counterfoil.esaw.drafts import SentHit
from counterfoil.kube.errors import ApiError, Rejected
from webhook.pages.limits import MAX_QUESTIONS, MAX_SHARED_QUESTIONS, PageLimits

_log = logging.getLogger(__name__)

MAX_UNREADABLE = 5
"""Maximum number of envelopes of one search that can't be read; then eSAW itself is the cause."""


@dataclass(frozen=True)
class SearchedUser:
    """The user whose envelopes are looked for."""

    organization: str
    """The Organization, with its namespace where a process serves several."""
    esaw: EsawUserClient
    email: str


@dataclass(frozen=True)
class SentHits:
    """Confirms hits. All drafts of a process share it."""

    limits: PageLimits
    _shared: Counter[str] = field(init=False, default_factory=Counter)
    """Concurrent questions beyond the first of each draft, by Organization."""
    _in_vain: dict[tuple[str, str], None] = field(init=False, default_factory=dict)
    """Questions that confirmed nothing until now, by Organization and source, the oldest first. They decide
    nothing but the order."""

    async def record_own(
        self,
        user: SearchedUser,
        hits: Sequence[SentHit],
        record: Callable[[Sequence[SentHit]], Awaitable[None]],
        *,
        until: float | None,
    ) -> bool:
        """
        Record those of the hits that this user sent; return whether one is the user's own.

        ``until`` is the event loop's time at which the questions end; None: they have no end. A hit that
        can't be read is left out, and the next search asks again.

        Raises ``EsawError`` if none of the user's own was found among the others, ``TimeoutError`` if none
        was found in time, and ``ApiError`` if one could not be recorded.
        """
        by_source: dict[str, list[SentHit]] = {}
        for hit in hits:
            by_source.setdefault(hit.bulk_parent or hit.envelope, []).append(hit)
        remaining = iter(self._in_order(user.organization, by_source))
        answers: list[bool | EsawError | None] = []
        problems: list[ApiError] = []

        async def work() -> None:
            for source in remaining:
                number = len(answers)
                answers.append(None)
                try:
                    answers[number] = answer = await self._ask(user, source, by_source[source][0].envelope)
                    if answer is True:
                        await record(by_source[source])
                        self._in_vain.pop((user.organization, source), None)
                except Rejected as problem:
                    problems.append(problem)
                except ApiError as problem:
                    problems.insert(0, problem)
                    return
                if _ends_pass(answers) or any(not isinstance(each, Rejected) for each in problems):
                    return

        shared = self._take_shared(user.organization, len(by_source))
        is_late = False
        try:
            async with asyncio.timeout_at(until), asyncio.TaskGroup() as tasks:
                for _ in range(1 + shared):
                    tasks.create_task(work())
        except TimeoutError:
            is_late = True
        finally:
            self._return_shared(user.organization, shared)
        has_found = has_own(answers)
        if problems:
            raise problems[0]
        if is_late and not has_found:
            raise TimeoutError
        return has_found

    def _in_order(self, organization: str, sources: Collection[str]) -> list[str]:
        """Return the sources of one pass: those that were not asked for yet, then the longest ago."""
        asked = [each for of, each in self._in_vain if of == organization and each in sources]
        known = set(asked)
        return [*(each for each in sources if each not in known), *asked][: self.limits.confirmations]

    async def _ask(self, user: SearchedUser, source: str, example: str) -> bool | EsawError:
        """Return whether the user sent this envelope, or why eSAW does not confirm or deny it."""
        self._in_vain.pop((user.organization, source), None)
        # Before the answer: one that does not come in time confirms nothing, too.
        self._in_vain[user.organization, source] = None
        if len(self._in_vain) > self.limits.remembered_questions:
            del self._in_vain[next(iter(self._in_vain))]
        try:
            sender = (await user.esaw.envelope(example)).sender
        except EsawError as problem:
            _log.warning("an envelope that eSAW lists as sent can't be read: %s", problem)
            return problem
        return sender is not None and is_same_address(sender.email, user.email)

    def _take_shared(self, organization: str, sources: int) -> int:
        """Take as many further questions at once as are free now; nobody waits for them."""
        free = MAX_SHARED_QUESTIONS - self._shared[organization]
        taken = max(0, min(MAX_QUESTIONS - 1, sources - 1, free))
        self._shared[organization] += taken
        return taken

    def _return_shared(self, organization: str, taken: int) -> None:
        self._shared[organization] -= taken
        if not self._shared[organization]:
            del self._shared[organization]


def has_own(answers: Sequence[bool | EsawError | None]) -> bool:
    """
    Whether one of the answers, in the order of the questions, is about the user's own envelope.

    What follows the end of a pass does not count: it was asked only because some questions run at once.
    Raises the ``EsawError`` of a refused key, and the first problem if no answer is about the user's own.
    """
    is_found = False
    problems: list[EsawError] = []
    for answer in answers:
        if not isinstance(answer, EsawError):
            is_found = is_found or answer is True
            continue
        if _is_refused_key(answer):
            raise answer
        if not _is_not_shown(answer):
            problems.append(answer)
        if len(problems) > MAX_UNREADABLE:
            break
    if problems and not is_found:
        # It may be the one that was looked for.
        raise problems[0]
    return is_found


def is_same_address(one: str | None, other: str | None) -> bool:
    """Whether two addresses of eSAW are the same one; an empty one is none."""
    return bool(one) and (one or "").lower() == (other or "").lower()


def _ends_pass(answers: Sequence[bool | EsawError | None]) -> bool:
    """Whether no further question is asked in this pass."""
    errors = [each for each in answers if isinstance(each, EsawError)]
    return (
        any(map(_is_refused_key, errors)) or sum(not _is_not_shown(each) for each in errors) > MAX_UNREADABLE
    )


def _is_refused_key(problem: EsawError) -> bool:
    return isinstance(problem, HttpStatusError) and problem.status == 401


def _is_not_shown(problem: EsawError) -> bool:
    """Whether eSAW itself, and not a proxy, says that the user may not read an envelope."""
    return isinstance(problem, HttpStatusError) and problem.has_own_form and problem.status in {403, 404}
