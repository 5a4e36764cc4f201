"""Clients of eSAW in memory."""

import asyncio
from collections.abc import Callable

from counterfoil.clock import Clock
from counterfoil.esaw import (
    ApiToken,
    EsawClient,
    EsawError,
    EsawUserClient,
    HttpStatusError,
    WhoAmI,
)
from counterfoil.esaw.client import EsawClients
from counterfoil.resources import (
    Organization,
)
from tests.support.builders import (
    ANNA,
    KEY,
    ORIGIN,
    AClock,
)


class KeyCheckingEsawClient(EsawClient):
    """Knows whose keys work, and counts who asks."""

    origin = ORIGIN

    def __init__(self, **users: str) -> None:
        self._clock = AClock()
        self.users = {KEY: ANNA} | users
        self.asked: list[str] = []
        self.problem: Exception | None = None
        self.refusal = HttpStatusError(401)
        self.while_asked: Callable[[], None] = lambda: None

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return KeyCheckingEsawUser(self, token)

    async def version(self, token: ApiToken | None = None) -> str:
        """Refuse to tell it to a user whose key does not work, as a proxy would."""
        if token is None or token.reveal() not in self.users:
            raise self.refusal
        self.key_accepted(token)
        return "25.52.0.100"


class KeyCheckingEsawUser(EsawUserClient):
    def __init__(self, esaw: KeyCheckingEsawClient, token: ApiToken) -> None:
        self._esaw = esaw
        self.token = token

    async def whoami(self) -> WhoAmI:
        self._esaw.asked.append(self.token.reveal())
        self._esaw.while_asked()
        await asyncio.sleep(0)
        if self._esaw.problem is not None:
            raise self._esaw.problem
        user = self._esaw.users.get(self.token.reveal())
        if user is None:
            raise self._esaw.refusal
        self._esaw.key_accepted(self.token)
        return WhoAmI(user_id=user)


class FakeEsawClient(EsawClient):
    """Tells its version, or fails."""

    origin = ORIGIN

    def __init__(self) -> None:
        self._clock = AClock()
        self.asked = 0
        self.problem: EsawError | None = None
        self.says = "25.52.0.100"
        self.tokens: list[ApiToken | None] = []
        """The tokens with which the version was requested."""

    async def version(self, token: ApiToken | None = None) -> str:
        self.asked += 1
        self.tokens.append(token)
        if self.problem is not None:
            raise self.problem
        if token is not None:
            self.key_accepted(token)
        return self.says

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return _FailingUser(self)


class _FailingUser(EsawUserClient):
    def __init__(self, esaw: FakeEsawClient) -> None:
        self._esaw = esaw

    async def whoami(self) -> WhoAmI:
        if self._esaw.problem is not None:
            raise self._esaw.problem
        return WhoAmI(user_id=ANNA)


class FakeEsawClients(EsawClients):
    """The same eSAW for all organizations."""

    def __init__(self, esaw: EsawClient) -> None:
        # Without an HTTP client, which takes longer to make than many tests need for the rest.
        self._clients = {}
        self._esaw = esaw
        self._address = ""

    def use_clock(self, clock: Clock) -> None:
        self._esaw._clock = clock

    def for_organization(self, organization: Organization) -> EsawClient:
        if self._address != organization.spec.base_url:
            self.forget(organization.name)
            self._address = organization.spec.base_url
        return self._esaw

    def forget(self, name: str) -> None:
        self._esaw.last_accepted = None
