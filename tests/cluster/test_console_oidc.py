"""
Sign-in with an OpenID provider, on an API server that trusts it: the ID token is the person's token.

The API server is a separate one, since it learns of the provider when it starts.
"""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from counterfoil.resources.audit_annotation import audit_entries
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import eventually
from tests.support.scenes.console import Person, Scene, console_scene
from tests.support.scenes.oidc import JANE, console_settings, janes_role, plane_that_trusts
from tests.support.servers.openid_provider import OpenIdProvider, new_signing_key, openid_provider


@pytest.fixture(scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenIdProvider]:
    async with openid_provider(tmp_path_factory.mktemp("openid")) as running:
        yield running


@pytest.fixture(scope="module")
async def plane(provider: OpenIdProvider) -> AsyncIterator[ControlPlane]:
    """A control plane whose API server trusts the provider."""
    async with plane_that_trusts(provider) as running:
        yield running


@dataclass
class OidcScene:
    """A console with a provider, in which Jane has all rights of an administrator."""

    scene: Scene
    provider: OpenIdProvider

    def person(self) -> Person:
        """A browser that nobody has used."""
        return self.scene.person()

    async def follow(self, person: Person, url: str) -> str:
        """Go to the provider as a browser does; return where it leads, at the console's own address."""
        context = ssl.create_default_context(cafile=self.provider.authority)
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            answer = await http.get(url)
        location = urlsplit(answer.headers["Location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == self.provider.redirect_uri
        return f"{location.path}?{location.query}"

    async def begun(self, person: Person, back: str = "/events") -> str:
        """Press "Sign in with ..."; return the address of the provider."""
        await person.get(back)
        (href,) = person.page.xpath("//a[starts-with(@href, '/oidc/start')]/@href")
        return await redirected(person, href)

    async def sign_in(self, person: Person, back: str = "/events") -> Person:
        """Sign in all the way."""
        return await person.get(await self.follow(person, await self.begun(person, back)))


async def redirected(person: Person, path: str) -> str:
    """Ask for a page that leads to another site; return its address, and keep the cookies."""
    cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    answer = await person.http.get(f"{person.console.public}{path}", headers={"Cookie": cookie})
    assert answer.status_code == 303
    person.keep(answer)
    return str(answer.headers["Location"])


@pytest.fixture
async def oidc(
    plane: ControlPlane, provider: OpenIdProvider, namespace: str, tmp_path: Path
) -> AsyncIterator[OidcScene]:
    settings = console_settings(provider, tmp_path, public_url="https://console.example.test")
    async with console_scene(plane, namespace, tmp_path, **settings) as scene:
        await scene.local_environment.apply(*janes_role())
        yield OidcScene(scene, provider)
        provider.claims, provider.lifetime, provider.signing_key = {}, 600, None
        provider.is_broken = provider.denies = False


async def test_a_person_signs_in_with_the_provider_and_acts_under_the_name_that_the_api_server_knows(
    oidc: OidcScene,
) -> None:
    name = await oidc.scene.failed("NameOccupied")

    jane = await oidc.sign_in(oidc.person(), f"/events/{name}")
    assert str(jane.answer.url).endswith(f"/events/{name}")
    assert not [each for each in jane.cookies if "console-oidc" in str(each)]
    await jane.press("retry")

    (act,) = audit_entries((await oidc.scene.event(name))["metadata"]["annotations"])
    assert (act.who, act.what) == (JANE, "retry")


async def test_the_way_to_the_provider_has_a_challenge_a_nonce_and_no_secret(oidc: OidcScene) -> None:
    url = await oidc.begun(oidc.person())

    query = parse_qs(urlsplit(url).query)
    assert url.startswith(f"{oidc.provider.url}/authorize?")
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["openid email"]
    assert all(len(query[each][0]) == 43 for each in ("state", "nonce", "code_challenge"))
    assert oidc.provider.client_secret not in url


async def test_a_session_ends_with_its_id_token(oidc: OidcScene) -> None:
    oidc.provider.lifetime = 600
    jane = oidc.person()
    answer_path = await oidc.follow(jane, await oidc.begun(jane))
    cookie = "; ".join(f"{name}={value}" for name, value in jane.cookies.items())

    answer = await jane.http.get(f"{jane.console.public}{answer_path}", headers={"Cookie": cookie})

    (session,) = (
        each
        for each in answer.headers.get_list("Set-Cookie")
        if each.startswith("__Host-counterfoil-console-0=")
    )
    seconds = int(session.partition("Max-Age=")[2].partition(";")[0])
    assert 0 < seconds <= 600


async def test_a_code_from_another_browser_is_not_exchanged(oidc: OidcScene) -> None:
    mallory, jane = oidc.person(), oidc.person()
    stolen = await oidc.follow(mallory, await oidc.begun(mallory))
    await oidc.begun(jane)
    before = oidc.provider.exchanges

    await jane.get(stolen)

    assert (jane.answer.status_code, oidc.provider.exchanges) == (403, before)
    assert "This sign-in is no longer valid" in jane.text
    assert jane.page.xpath("//input[@name='back']/@value") == ["/"]


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": ["counterfoil", "another-client"], "azp": "another-client"},
        {"iss": "https://evil.example"},
    ],
)
async def test_an_id_token_for_another_client_is_refused(oidc: OidcScene, claims: dict[str, object]) -> None:
    oidc.provider.claims = claims

    jane = await oidc.sign_in(oidc.person())

    assert jane.answer.status_code == 401
    assert "You are not signed in" in jane.text


async def test_a_token_that_the_api_server_does_not_verify_makes_no_session(oidc: OidcScene) -> None:
    oidc.provider.signing_key = new_signing_key()

    jane = await oidc.sign_in(oidc.person())

    assert jane.answer.status_code == 401
    assert "Kubernetes does not accept this login" in jane.text
    assert not [name for name in jane.cookies if name.startswith("__Host-counterfoil-console-0")]


async def test_an_expired_id_token_makes_no_session(oidc: OidcScene) -> None:
    oidc.provider.lifetime = -60

    assert (await oidc.sign_in(oidc.person())).answer.status_code == 401


async def test_a_person_who_cancels_is_back_at_the_sign_in_page(oidc: OidcScene) -> None:
    oidc.provider.denies = True

    jane = await oidc.sign_in(oidc.person())

    assert jane.answer.status_code == 401
    assert jane.page.xpath("//form/@action") == ["/sign-in"]


async def test_a_provider_that_does_not_work_is_reported_and_tokens_still_work(oidc: OidcScene) -> None:
    oidc.provider.is_broken = True
    jane = await oidc.sign_in(oidc.person())
    assert jane.answer.status_code == 503
    assert "The login does not answer" in jane.text

    joe = await oidc.scene.signed_in("view")
    assert "Events" in joe.text


async def test_codes_cannot_be_tried_at_will(oidc: OidcScene) -> None:
    jane = oidc.person()
    state = parse_qs(urlsplit(await oidc.begun(jane)).query)["state"][0]

    async def is_limited() -> bool:
        await jane.get(f"/oidc/return?state={state}&code=guess")
        return jane.answer.status_code == 429

    await eventually(is_limited)
