"""
What a 404 means while an envelope is worked on: eSAW answers it to everything that is gone, so its history is asked.
"""

from controller.desk import Desk
from counterfoil.esaw.problems import Answered
from counterfoil.resources import EnvelopeEvent


async def was_deleted(event: EnvelopeEvent, at: Desk) -> bool:
    """Whether eSAW's history says that the envelope was deleted. Raises an ``EsawProblem`` when it can't be asked."""
    try:
        history = await at.esaw.history(event.spec.envelope_id)
    except Answered as answer:
        # 403: this user may not see histories, so nobody can tell. Else history does not know the envelope either.
        if answer.status == 403 or answer.is_missing_envelope:
            return False
        raise
    return history.has_been_deleted


def is_missing(problem: BaseException | None) -> bool:
    """Whether this is eSAW's "there is no such thing"."""
    return isinstance(problem, Answered) and problem.status == 404
