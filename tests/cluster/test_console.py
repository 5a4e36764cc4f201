"""The console on a real API server: it acts with the rights of its user, and each act is recorded."""

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import lxml.html
import pytest

from counterfoil.kube.client import connect
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import EnvelopeEvent, Organization, Sender
from counterfoil.resources.audit_annotation import audit_entries
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import local_environment
from tests.support.scenes.console import MISSING_BUCKET, Person, Scene, a_condition, console_scene, now

FULL_NAME = "system:serviceaccount:{}:full"


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with console_scene(plane, namespace, tmp_path) as built:
        await built.an_archive("dms", "True", "Probed")
        await built.an_organization()
        yield built


async def test_without_a_token_there_is_nothing_to_see_but_the_way_in(scene: Scene) -> None:
    await scene.failed("NameOccupied")
    stranger = scene.person()
    for path in ("/", "/events", "/senders", "/archives", "/organizations", "/imports"):
        await stranger.get(path)
        assert "NameOccupied" not in stranger.answer.text
        assert stranger.page.xpath("//form/@action") == ["/sign-in"]


async def test_a_token_that_the_api_server_does_not_know_is_refused(scene: Scene) -> None:
    for token in ("nonsense", scene.tokens["full"][:-4] + "AAAA"):
        stranger = await scene.person().sign_in(token)
        assert stranger.answer.status_code == 401
        assert "This token is not accepted" in stranger.text
        assert (await stranger.get("/events")).page.xpath("//form/@action") == ["/sign-in"]


async def test_after_signing_in_a_person_is_where_the_link_led(scene: Scene) -> None:
    name = await scene.failed("NameOccupied")

    jane = await scene.signed_in("full", at=f"/events/{name}")

    assert str(jane.answer.url).endswith(f"/events/{name}")
    assert "Another file lies" in jane.text or "NameOccupied" in jane.text


async def test_the_session_leads_to_no_other_site(scene: Scene) -> None:
    stranger = await scene.person().get("/sign-in?back=//evil.example/")
    assert stranger.page.xpath("//input[@name='back']/@value") == ["/"]


async def test_a_retry_is_asked_for_with_who_when_and_why_on_the_object_and_as_an_event(
    scene: Scene, namespace: str
) -> None:
    name = await scene.failed("NameOccupied")
    jane = await scene.signed_in(at=f"/events/{name}")

    await jane.press("retry")

    assert "The retry has begun." in jane.text
    metadata = (await scene.event(name))["metadata"]
    assert metadata["labels"]["counterfoil.dev/request"] == "retry"
    assert metadata["annotations"]["counterfoil.dev/request-by"] == FULL_NAME.format(namespace)
    (act,) = audit_entries(metadata["annotations"])
    assert (act.who, act.what) == (FULL_NAME.format(namespace), "retry")
    (told,) = await scene.told()
    assert told["regarding"]["name"] == name
    assert told["note"].startswith(f"{FULL_NAME.format(namespace)} requested retry")


async def test_skipping_requires_a_reason(scene: Scene) -> None:
    name = await scene.failed("NameOccupied")
    jane = await scene.signed_in(at=f"/events/{name}")

    await jane.press("skip")
    assert jane.answer.status_code == 422
    assert "counterfoil.dev/request" not in (await scene.event(name))["metadata"]["labels"]

    await jane.get(f"/events/{name}")
    await jane.press("skip", why="a duplicate of 2026-0815")
    metadata = (await scene.event(name))["metadata"]
    assert metadata["labels"]["counterfoil.dev/request"] == "skip"
    assert metadata["annotations"]["counterfoil.dev/request-reason"] == "a duplicate of 2026-0815"


async def test_an_event_is_held_and_continues(scene: Scene) -> None:
    name = await scene.waiting()
    jane = await scene.signed_in(at=f"/events/{name}")

    await jane.press("suspend", why="audit")
    assert (await scene.event(name))["spec"]["suspend"] is True
    await jane.press("resume")

    event = await scene.event(name)
    assert event["spec"]["suspend"] is False
    assert [act.what for act in audit_entries(event["metadata"]["annotations"])] == ["suspend", "resume"]


async def test_all_that_failed_for_one_reason_is_retried_by_one_click_and_nothing_else(scene: Scene) -> None:
    occupied = [await scene.failed("NameOccupied") for _ in range(5)]
    unknown = await scene.failed("SenderUnknown")
    jane = await scene.signed_in()
    assert "5 events failed: A file has the name" in jane.text

    await jane.press("retry", within="NameOccupied")

    assert "A retry was requested for 5 events." in jane.text
    for name in occupied:
        assert (await scene.event(name))["metadata"]["labels"]["counterfoil.dev/request"] == "retry"
    assert "counterfoil.dev/request" not in (await scene.event(unknown))["metadata"]["labels"]


async def test_a_sender_with_37_waiting_envelopes_is_one_line_and_is_asked_again_by_one_click(
    scene: Scene,
) -> None:
    await scene.a_sender("anna", truth="False", reason="TokenRejected")
    for _ in range(37):
        await scene.waiting()
    jane = await scene.signed_in()
    assert jane.text.count("37 envelopes wait for consent") == 1
    assert "https://pages.example.com/consent/acme/anna" in jane.page.xpath("//code/text()")

    await jane.press("ask")

    sender = await scene.local_environment.read("sender", "anna")
    assert sender["metadata"]["labels"]["counterfoil.dev/request"] == "ask"
    assert [act.what for act in audit_entries(sender["metadata"]["annotations"])] == ["ask"]


async def test_a_sender_with_an_own_key_is_the_administrators_task_in_the_words_of_the_plugin(
    scene: Scene,
) -> None:
    await scene.local_environment.apply(
        {
            "apiVersion": "counterfoil.dev/v1beta1",
            "kind": "Sender",
            "metadata": {"name": "ben"},
            "spec": {
                "organizationRef": {"name": "acme"},
                "userID": "7a0f9b9e-0000-4000-8000-000000000001",
                "email": "ben@example.com",
                "tokenSecretRef": {"name": "ben-key", "key": "token"},
            },
        }
    )
    refused = {"conditions": [a_condition("Authorized", "False", "TokenRejected")], "waitingEvents": 1}
    await scene.kube.patch_status(Sender, "ben", refused, resource_version=None)
    await scene.waiting("ben")

    for path in ("/attention", "/senders"):
        jane = await scene.signed_in(at=path)
        assert "put a new one into Secret/ben-key, key 'token'. There is no consent to give." in jane.text
        assert """patch secret ben-key -p '{"stringData":{"token":"NEW-API-KEY"}}'""" in jane.text
        assert "The sender must act" not in jane.text
        assert not jane.page.xpath("//button[@value='ask']")


async def test_a_failing_event_is_a_task_while_it_is_retried(scene: Scene) -> None:
    name = await scene.an_event(
        phase="Archiving", reason="TagMissing", message="The tag costCenter is missing."
    )
    await scene.an_event(phase="Archiving", reason="EsawFailing")
    jane = await scene.signed_in()
    assert "One event waits" in jane.text
    assert "The tag costCenter is missing." in jane.text
    assert f"/events/{name}" in jane.page.xpath("//section//a/@href")


async def test_an_archive_is_probed_and_an_organization_swept_held_and_resumed(scene: Scene) -> None:
    await scene.an_archive("broken", "False", "ArchiveBucketMissing", MISSING_BUCKET)
    jane = await scene.signed_in(at="/archives")
    assert MISSING_BUCKET in jane.text
    await jane.press("probe", within="broken")
    await jane.press("suspend", within="broken", why="an update")
    await (await jane.get("/organizations")).press("sweep")
    await jane.press("suspend", why="a move")

    archive = await scene.local_environment.read("archive", "broken")
    organization = await scene.local_environment.read("org", "acme")
    assert archive["metadata"]["labels"]["counterfoil.dev/request"] == "probe"
    assert archive["spec"]["suspend"] is True
    assert organization["metadata"]["labels"]["counterfoil.dev/request"] == "sweep"
    assert organization["metadata"]["annotations"]["counterfoil.dev/request-by"] == FULL_NAME.format(
        scene.local_environment.namespace
    )
    assert organization["spec"]["suspend"] is True
    tasks = (await jane.get("/attention")).text
    assert "acme is suspended" in tasks
    assert "broken is suspended" in tasks


async def test_a_check_is_asked_for_by_its_page_which_shows_the_last_result(scene: Scene) -> None:
    line = {"id": "base-url", "outcome": "Deviates", "found": "not-esaw", "message": "That is no eSAW."}
    check = {"startTime": now(), "completionTime": now(), "results": [line]}
    await scene.kube.patch_status(Organization, "acme", {"check": check}, resource_version=None)
    jane = await scene.signed_in(at="/organizations/acme/check")
    assert "0 as expected, 1 deviate" in jane.text
    assert "That is no eSAW." in jane.text
    assert jane.page.xpath("//dl[@class='facts']//code/text()") == ["not-esaw"]

    await jane.press("check")

    assert "The check begins." in jane.text
    organization = await scene.local_environment.read("org", "acme")
    assert organization["metadata"]["labels"]["counterfoil.dev/request"] == "check"
    looker = await scene.signed_in("view", at="/organizations/acme/check")
    assert not looker.page.xpath("//button[@name='what']")


async def test_a_read_only_user_sees_all_and_every_action_is_refused(scene: Scene) -> None:
    name = await scene.failed("NameOccupied")
    joe = await scene.signed_in("view", at=f"/events/{name}")
    assert joe.page.xpath("//form[@method='post']/@action") == ["/theme", "/sign-out"]

    await joe.send(an_act_of(joe), kind="envelopeevents", name=name, what="retry", back="/")

    assert joe.answer.status_code == 403
    assert "You have no right to do that" in joe.text
    assert "counterfoil.dev/request" not in (await scene.event(name))["metadata"]["labels"]


async def test_a_user_without_rights_gets_a_message_and_sees_nothing(scene: Scene) -> None:
    name = await scene.failed("NameOccupied")
    for path in (
        "/",
        "/events",
        f"/events/{name}",
        f"/events/{name}/yaml",
        "/senders",
        "/archives",
        "/organizations",
        "/imports",
        "/imports/old-stock",
    ):
        nobody = await scene.signed_in("none", at=path)
        assert nobody.answer.status_code == 403, path
        assert "NameOccupied" not in nobody.text


async def test_the_consoles_own_account_can_do_nothing(
    scene: Scene, plane: ControlPlane, namespace: str
) -> None:
    kubeconfig = await plane.kubeconfig_for("console", namespace)
    async with connect(namespace=namespace, kubeconfig=kubeconfig) as console:
        for verb in ("get", "list", "patch", "create", "delete"):
            for kind in ("envelopeevents", "organizations", "senders", "archives", "imports"):
                assert not await console.is_allowed(verb, kind)
            assert not await console.is_allowed(verb, "secrets", group="")
        with pytest.raises(Forbidden):
            await console.page(EnvelopeEvent, limit=1)


async def test_a_console_that_is_started_with_an_administrators_certificate_lends_it_to_nobody(
    scene: Scene, plane: ControlPlane
) -> None:
    await scene.failed("NameOccupied")
    kubeconfig = plane.kubeconfig_with_certificate()
    assert "client-certificate-data" in kubeconfig.read_text()
    lent = await scene.local_environment.console("lent", kubeconfig=kubeconfig)
    scene.console = lent

    nobody = await scene.signed_in("none", at="/events")
    stranger = await scene.person().sign_in("nonsense")

    assert nobody.answer.status_code == 403
    assert stranger.answer.status_code == 401


async def test_a_form_from_elsewhere_or_without_the_sessions_token_does_nothing(scene: Scene) -> None:
    name = await scene.failed("NameOccupied")
    jane = await scene.signed_in(at=f"/events/{name}")
    fields = {"kind": "envelopeevents", "name": name, "what": "retry", "back": "/"}
    token = jane.page.xpath("//input[@name='form']/@value")[0]
    cookie = "; ".join(f"{key}={value}" for key, value in jane.cookies.items())
    other = await scene.signed_in()
    foreign = other.page.xpath("//input[@name='form']/@value")[0]

    async def sent(form: str, **headers: str) -> httpx.Response:
        return await scene.http.post(
            f"{scene.console.public}/act",
            data={**fields, "form": form},
            headers={"Cookie": cookie, **headers},
        )

    assert (await sent("")).status_code == 403
    assert (await sent(foreign)).status_code == 403
    assert (await sent(token, **{"Sec-Fetch-Site": "cross-site"})).status_code == 403
    assert "counterfoil.dev/request" not in (await scene.event(name))["metadata"]["labels"]
    assert (await sent(token)).status_code == 303


async def test_a_link_in_a_mail_leads_through_our_own_page_so_that_the_strict_cookie_is_sent(
    scene: Scene,
) -> None:
    stranger = await scene.person().get(
        "/attention?organization=acme", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    )

    assert stranger.answer.status_code == 200
    assert stranger.page.xpath("//meta[@http-equiv='refresh']/@content") == [
        "0; url=/attention?organization=acme"
    ]


CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}


async def test_a_link_on_a_third_party_page_to_the_sign_in_signs_nobody_out(scene: Scene) -> None:
    jane = await scene.signed_in()
    # The browser keeps strict cookies back, so the console can't know that there is a session.
    with_headers = await scene.http.get(f"{scene.console.public}/sign-in?back=/events", headers=CROSS_SITE)
    of_an_old_browser = await scene.http.get(f"{scene.console.public}/sign-in?back=/events")

    assert "Set-Cookie" not in with_headers.headers
    assert 'content="0; url=/sign-in?back=/events"' in with_headers.text
    given = {each.partition("=")[0] for each in of_an_old_browser.headers.get_list("Set-Cookie")}
    assert given
    assert not given & {name for name in jane.cookies if not name.endswith("guest")}


async def test_a_signed_in_user_at_the_sign_in_is_redirected_to_its_target(scene: Scene) -> None:
    jane = await scene.signed_in()
    assert (await jane.get("/sign-in")).answer.url.path == "/attention"
    assert (await jane.get("/sign-in?back=/archives")).answer.url.path == "/archives"
    assert (await jane.get("/sign-in?back=//evil.example/")).answer.url.path == "/attention"


async def test_a_user_without_rights_can_sign_in_as_another_user(scene: Scene) -> None:
    jane = await scene.signed_in("none")
    await jane.send(jane.page.xpath("//main//form[@action='/sign-out']")[0])
    await jane.send(jane.page.xpath("//form[@action='/sign-in']")[0], token=scene.tokens["full"])
    assert jane.page.xpath("//h1/text()") == ["Tasks"]


async def test_behind_a_proxy_the_token_comes_with_each_request_and_is_in_no_cookie(
    scene: Scene, namespace: str
) -> None:
    name = await scene.failed("NameOccupied")
    scene.console = await scene.local_environment.console("proxied", sign_in="proxy")
    bearer = {"Authorization": f"Bearer {scene.tokens['full']}"}
    scene.http.headers.update(bearer)
    jane = await scene.person().get(f"/events/{name}")
    assert jane.cookies
    await jane.press("retry")
    assert "The retry has begun." in jane.text
    assert (await scene.event(name))["metadata"]["annotations"][
        "counterfoil.dev/request-by"
    ] == FULL_NAME.format(namespace)

    del scene.http.headers["Authorization"]
    await jane.get("/events")
    assert jane.answer.status_code == 401
    assert "NameOccupied" not in jane.text


async def test_behind_a_proxy_nobody_signs_in_or_out_here(scene: Scene) -> None:
    scene.console = await scene.local_environment.console("proxied", sign_in="proxy")
    scene.http.headers.update({"Authorization": f"Bearer {scene.tokens['full']}"})
    jane = await scene.person().get("/archives")
    assert not jane.page.xpath("//form[@action='/sign-out']")
    (form,) = jane.page.xpath("//form[.//button[@value='probe']]")

    for action in ("/sign-in", "/sign-out"):
        form.set("action", action)
        await jane.send(form, token=scene.tokens["view"])
        assert jane.answer.status_code == 404, action

    assert (await jane.get("/sign-in")).answer.url.path == "/attention"
    assert f"{scene.local_environment.namespace}:full" in jane.text


async def test_signing_out_ends_the_session(scene: Scene) -> None:
    jane = await scene.signed_in()
    await jane.send(jane.page.xpath("//form[@action='/sign-out']")[0])
    await jane.get("/events")
    assert jane.page.xpath("//form/@action") == ["/sign-in"]


async def test_no_token_is_in_the_log(scene: Scene) -> None:
    await scene.signed_in()
    await scene.person().sign_in("a-wrong-token-that-somebody-typed")
    log = scene.console.log.read_text()
    assert scene.tokens["full"] not in log
    assert "a-wrong-token" not in log


async def test_the_log_says_who_did_what_to_which_object_with_which_result(
    scene: Scene, namespace: str
) -> None:
    name = await scene.failed("NameOccupied")
    for who in ("full", "view"):
        person = await scene.signed_in(who, at=f"/events/{name}")
        form = {"kind": "envelopeevents", "name": name, "what": "retry", "back": "/"}
        await person.send(an_act_of(person), **form)
    await (await scene.signed_in()).press("retry", within="NameOccupied")

    lines = [json.loads(each) for each in scene.console.log.read_text().splitlines()]
    asked = [each for each in lines if each["logger"].endswith(("actions", "bulk"))]
    told = [(each["who"], each["message"], each.get("event"), each.get("organization")) for each in asked]
    full = FULL_NAME.format(namespace)
    assert told == [
        (full, "retry was requested", name, None),
        (full, "retry was requested: 1 events", None, None),
    ]
    refused = [each for each in lines if each.get("outcome") == "not_allowed"]
    assert [each["who"] for each in refused] == [full.replace("full", "view")]
    assert any(each.get("who") == full and each["message"] == "console sign_in: led_on" for each in lines)


@dataclass
class TwoNamespaces:
    """A console for two namespaces: jane has rights in both, and joe in the first one only."""

    scene: Scene
    sales: Scene
    """Objects of the second namespace; the console is the one of the first namespace."""
    name: str
    """The second namespace."""
    jane: Person
    joe: Person

    @property
    def root(self) -> str:
        """Beginning of the paths of the second namespace."""
        return f"/namespaces/{self.name}"


@pytest.fixture
async def two(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[TwoNamespaces]:
    other = f"{namespace}-sales"
    await plane.namespace(other)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with (
        console_scene(plane, namespace, first, namespaces=f"{other},{namespace}") as scene,
        local_environment(plane, second, namespace=other) as built,
        connect(namespace=other, kubeconfig=plane.kubeconfig) as kube,
    ):
        bound = rbac.service_account_with_rules("jane", rbac.ADMINISTRATOR)[1:]
        bound[-1]["subjects"] = [{"kind": "ServiceAccount", "name": "full", "namespace": namespace}]
        await built.apply(*bound)
        sales = Scene(built, kube, scene.console, scene.tokens, scene.http)
        for each in (scene, sales):
            await each.an_archive("dms", "True", "Probed")
            await each.an_organization()
        joe = await scene.person().sign_in(await scene.local_environment.person("joe", *rbac.ADMINISTRATOR))
        yield TwoNamespaces(scene, sales, other, await scene.signed_in(), joe)


async def test_a_person_with_rights_in_two_namespaces_sees_and_changes_each_by_its_own_pages(
    two: TwoNamespaces, namespace: str
) -> None:
    here, there = await two.scene.failed("NameOccupied"), await two.sales.failed("NameOccupied")
    jane = two.jane
    await jane.get("/events")
    assert (here in jane.answer.text, there in jane.answer.text) == (True, False)

    (link,) = jane.page.xpath(f"//nav[@class='namespaces']//a[text()='{two.name}']/@href")
    await jane.get(link)
    await jane.get(jane.page.xpath("//nav//a[text()='Events']/@href")[0])
    assert (here in jane.answer.text, there in jane.answer.text) == (False, True)
    await jane.get(jane.page.xpath("//td/a/@href")[0])
    assert str(jane.answer.url).endswith(f"{two.root}/events/{there}")
    await jane.press("retry")

    assert "The retry has begun." in jane.text
    assert str(jane.answer.url).partition("?")[0].endswith(f"{two.root}/events/{there}")
    changed = (await two.sales.event(there))["metadata"]
    assert changed["labels"]["counterfoil.dev/request"] == "retry"
    assert changed["annotations"]["counterfoil.dev/request-by"] == FULL_NAME.format(namespace)
    assert "counterfoil.dev/request" not in (await two.scene.event(here))["metadata"]["labels"]
    assert [each["regarding"]["namespace"] for each in await two.sales.told()] == [two.name]
    assert await two.scene.told() == []
    lines = [json.loads(each) for each in two.scene.console.log.read_text().splitlines()]
    told = [each["namespace"] for each in lines if each["message"] == "retry was requested"]
    assert told == [two.name]


async def test_many_events_and_a_file_are_of_the_namespace_of_their_page(two: TwoNamespaces) -> None:
    here, there = await two.scene.failed("NameOccupied"), await two.sales.failed("NameOccupied")
    jane = await two.jane.get(f"{two.root}/events?phase=Failed")
    (form,) = jane.page.xpath("//form[@id='bulk']")
    file, check = jane.page.xpath("//a[text()='JSON']/@href")[0], f"{two.root}/organizations/acme/check"
    await jane.get(file)
    assert [each["event"] for each in jane.answer.json()["events"]] == [there]

    await jane.send(form, do="retry-all")
    (confirmation,) = jane.page.xpath("//main//form")
    await jane.send(confirmation, do="retry-all")
    assert "A retry was requested for one event." in jane.text
    assert (await two.sales.event(there))["metadata"]["labels"]["counterfoil.dev/request"] == "retry"
    assert "counterfoil.dev/request" not in (await two.scene.event(here))["metadata"]["labels"]

    await (await jane.get(check)).press("check")
    asked = [await each.local_environment.read("org", "acme") for each in (two.sales, two.scene)]
    labels = [each["metadata"].get("labels", {}).get("counterfoil.dev/request") for each in asked]
    assert labels == ["check", None]


async def test_a_form_of_one_namespace_sent_to_another_one_changes_neither(two: TwoNamespaces) -> None:
    here, there = await two.scene.failed("NameOccupied"), await two.sales.failed("NameOccupied")
    for path, target, name in (
        (f"/events/{here}", f"{two.root}/act", there),
        (f"{two.root}/events/{there}", "/act", here),
    ):
        jane = await two.jane.get(path)
        (form,) = jane.page.xpath("//form[.//button[@value='retry']]")
        form.set("action", target)
        await jane.send(form, what="retry", name=name)
        assert jane.answer.status_code == 403

    for scene, name in ((two.scene, here), (two.sales, there)):
        assert "counterfoil.dev/request" not in (await scene.event(name))["metadata"]["labels"]


async def test_a_user_with_rights_in_one_namespace_gets_a_message_in_the_other_one(
    two: TwoNamespaces,
) -> None:
    there = await two.sales.failed("NameOccupied")
    joe = two.joe
    for path in ("/attention", "/events", f"/events/{there}", "/events.csv"):
        await joe.get(f"{two.root}{path}")
        assert joe.answer.status_code == 403, path
        assert "You have no right to do that" in joe.text
        assert "NameOccupied" not in joe.text

    (form,) = joe.page.xpath("//form[@action=$action]", action=f"{two.root}/theme")
    form.set("action", f"{two.root}/act")
    await joe.send(form, kind="envelopeevents", name=there, what="retry")
    assert joe.answer.status_code == 403
    assert "counterfoil.dev/request" not in (await two.sales.event(there))["metadata"]["labels"]
    assert (await joe.get("/events")).answer.status_code == 200


async def test_a_namespace_that_the_console_does_not_serve_is_no_page(two: TwoNamespaces) -> None:
    assert (await two.jane.get("/namespaces/default/events")).answer.status_code == 404


async def test_a_sign_out_on_a_page_of_another_namespace_is_stored_in_the_consoles_own(
    two: TwoNamespaces,
) -> None:
    jane = await two.jane.get(f"{two.root}/events")
    await jane.send(jane.page.xpath("//form[@action=$action]", action=f"{two.root}/sign-out")[0])
    for path in ("/events", f"{two.root}/events"):
        assert (await jane.get(path)).page.xpath("//form/@action") == ["/sign-in"]
    stored = [
        (await each.local_environment.read("configmap", "counterfoil-console-sessions")).get("data")
        for each in (two.scene, two.sales)
    ]
    assert (bool(stored[0]), stored[1]) == (True, None)


def an_act_of(person: Person) -> lxml.html.HtmlElement:
    """A form that acts, as somebody makes it who is offered none: with the session's own token."""
    form: lxml.html.HtmlElement = person.page.xpath("//form[@action='/sign-out']")[0]
    form.set("action", "/act")
    return form


async def test_a_client_that_asks_for_too_much_delays_no_other_client_of_the_proxy(
    scene: Scene,
) -> None:
    scene.console = await scene.local_environment.console(
        "narrow", kubeconfig=None, proxies="1", address_rate="0.1", address_burst="1"
    )
    rude, jane = scene.person("203.0.113.7"), scene.person("203.0.113.8")
    statuses = {(await rude.get("/sign-in")).answer.status_code for _ in range(20)}
    assert statuses == {200, 429}
    assert (await jane.get("/sign-in")).answer.status_code == 200


async def test_every_answer_is_kept_from_frames_caches_and_foreign_scripts(scene: Scene) -> None:
    jane = await scene.signed_in()
    headers = jane.answer.headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    for source in jane.page.xpath("//script/@src | //link/@href"):
        file = await scene.http.get(f"{scene.console.public}{source}")
        assert file.status_code == 200
        assert "immutable" in file.headers["Cache-Control"]


async def test_events_come_in_pages_by_the_api_servers_own_tokens(scene: Scene) -> None:
    names = {await scene.failed("NameOccupied") for _ in range(130)}
    jane = await scene.signed_in(at="/events?phase=Failed")
    first = set(jane.page.xpath("//td/a/@href"))
    assert len(first) == 100
    await jane.get(jane.page.xpath("//a[starts-with(@href, '/events?phase=Failed&token=')]/@href")[0])
    second = set(jane.page.xpath("//td/a/@href"))

    assert first | second == {f"/events/{name}" for name in names}
    assert not first & second


async def test_a_search_finds_by_name_address_reason_and_time_on_the_api_server(scene: Scene) -> None:
    await scene.a_sender("anna")
    await scene.a_sender("ben")
    wanted = await scene.an_event(sender="ben", phase="Succeeded", envelope={"name": "Lease of a boat"})
    tags = {"contractNo": "NR/2026 0815"}
    tagged = await scene.an_event(phase="Succeeded", archive={"ref": {"name": "dms"}, "tags": tags})
    failed = await scene.failed("NameOccupied")
    today = now()[:10]
    jane = await scene.signed_in()
    for query, found in {
        "text=lease+of": {wanted},
        "text=BEN@example": {wanted},
        "text=eve@example.com": set(),
        "text=nr/2026": {tagged},
        "reason=NameOccupied": {failed},
        f"since={today}&sort=next": {wanted, tagged, failed},
        "until=2020-01-01": set(),
    }.items():
        await jane.get(f"/events?{query}")
        assert set(jane.page.xpath("//td/a/@href")) == {f"/events/{name}" for name in found}, query
    await jane.get(f"/events/{tagged}")
    assert "NR/2026 0815" in jane.page.xpath("string(//dt[.='contractNo']/following-sibling::dd[1])")


async def test_all_of_a_filter_is_changed_after_its_confirmation_and_a_selection_too(scene: Scene) -> None:
    occupied = [await scene.failed("NameOccupied") for _ in range(3)]
    other = await scene.failed("SenderUnknown")
    jane = await scene.signed_in(at="/events?reason=NameOccupied")
    (form,) = jane.page.xpath("//form[@id='bulk']")

    await jane.send(form, do="retry-all")
    assert "Retry 3 events?" in jane.text
    assert "counterfoil.dev/request" not in (await scene.event(occupied[0]))["metadata"]["labels"]
    (confirmation,) = jane.page.xpath("//main//form")
    await jane.send(confirmation, do="retry-all", why="the folder is there")

    assert "A retry was requested for 3 events." in jane.text
    for name in occupied:
        metadata = (await scene.event(name))["metadata"]
        assert metadata["labels"]["counterfoil.dev/request"] == "retry"
        assert [act.why for act in audit_entries(metadata["annotations"])] == ["the folder is there"]
    assert "counterfoil.dev/request" not in (await scene.event(other))["metadata"]["labels"]

    await jane.get("/events?phase=Failed")
    (form,) = jane.page.xpath("//form[@id='bulk']")
    await jane.send(form, do="skip-selected", **{f"e-{other}": "1"})
    (confirmation,) = jane.page.xpath("//main//form")
    await jane.send(confirmation, do="skip-selected", why="a test")

    assert "A skip was requested for one event." in jane.text
    assert (await scene.event(other))["metadata"]["labels"]["counterfoil.dev/request"] == "skip"


async def test_many_events_are_changed_by_no_form_from_elsewhere_and_by_nobody_without_the_right(
    scene: Scene,
) -> None:
    name = await scene.failed("NameOccupied")
    jane = await scene.signed_in(at="/events")
    (form,) = jane.page.xpath("//form[@id='bulk']")
    form.xpath("./input[@name='form']")[0].set("value", "forged")
    await jane.send(form, do="retry-all", confirmed="1")
    assert jane.answer.status_code == 403

    viewer = await scene.signed_in("view", at="/events")
    token = viewer.page.xpath("//form[@action='/sign-out']/input[@name='form']/@value")[0]
    own = lxml.html.fragment_fromstring(f'<form action="/bulk"><input name="form" value="{token}"></form>')
    await viewer.send(own, do="retry-all", confirmed="1")
    assert viewer.answer.status_code == 403
    assert "counterfoil.dev/request" not in (await scene.event(name))["metadata"]["labels"]


async def test_all_events_of_a_filter_come_as_a_file(scene: Scene) -> None:
    await scene.a_sender("anna")
    names = {await scene.failed("NameOccupied", envelope={"name": "=1+1"}) for _ in range(3)}
    await scene.waiting()
    jane = await scene.signed_in(at="/events?phase=Failed")

    await jane.get(jane.page.xpath("//a[text()='CSV']/@href")[0])
    rows = list(csv.DictReader(io.StringIO(jane.answer.content.decode("utf-8-sig"))))
    assert {row["event"] for row in rows} == names
    assert {(row["envelopeName"], row["senderEmail"]) for row in rows} == {("'=1+1", "anna@example.com")}
    assert jane.answer.headers["Content-Type"].startswith("text/csv")
    assert jane.answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert jane.answer.headers["X-Content-Type-Options"] == "nosniff"

    await jane.get("/events.json?phase=Failed")
    assert {each["event"] for each in jane.answer.json()["events"]} == names

    nobody = await scene.signed_in("none")
    assert (await nobody.get("/events.csv")).answer.status_code == 403
