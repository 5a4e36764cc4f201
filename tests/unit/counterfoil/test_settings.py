"""Settings: read from the environment and from flags, documented, and refused with a helpful line."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from counterfoil.durations import Duration
from counterfoil.settings import (
    CommonSettings,
    ConsoleSettings,
    ControllerSettings,
    ListenAddress,
    LogFormat,
    LogLevel,
    PagesSettings,
    ProcessSettingsInvalid,
    ReceiverSettings,
    ResealSettings,
    describe_settings,
    load,
    read,
)

EVERY_PROCESS: list[type[CommonSettings]] = [
    CommonSettings,
    ReceiverSettings,
    PagesSettings,
    ConsoleSettings,
    ResealSettings,
    ControllerSettings,
]


def test_without_anything_said_the_defaults_hold() -> None:
    settings = read(ReceiverSettings, [], {})

    assert settings.listen == ListenAddress("0.0.0.0", 8080)
    assert settings.private_listen == ListenAddress("0.0.0.0", 9090)
    assert settings.namespace is None
    assert settings.log_level is LogLevel.INFO
    assert settings.log_format is LogFormat.JSON


def test_the_environment_sets_and_a_flag_wins_over_it() -> None:
    environ = {"COUNTERFOIL_NAMESPACE": "contracts", "COUNTERFOIL_LISTEN": "127.0.0.1:1"}

    settings = read(ReceiverSettings, ["--listen", "[::1]:2"], environ)

    assert settings.namespace == "contracts"
    assert settings.listen == ListenAddress("::1", 2)


def test_an_empty_variable_means_not_set() -> None:
    assert read(ReceiverSettings, [], {"COUNTERFOIL_LISTEN": ""}).listen.port == 8080


def test_variables_that_kubernetes_makes_for_a_service_do_no_harm() -> None:
    assert read(ReceiverSettings, [], {"COUNTERFOIL_RECEIVER_SERVICE_HOST": "10.0.0.1"})


def test_durations_numbers_and_words_are_read() -> None:
    settings = read(
        ReceiverSettings, ["--grace", "1m30s", "--callback-rate", "2.5", "--log-format", "TEXT"], {}
    )

    assert settings.grace == Duration(seconds=90)
    assert settings.callback_rate == 2.5
    assert settings.log_format is LogFormat.TEXT


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--listen", "8080"], "COUNTERFOIL_LISTEN (or --listen) is '8080': it is not host:port"),
        (["--listen", "host:99999"], "it is not host:port"),
        (["--listen", "host:²"], "it is not host:port"),
        (["--log-level", "loud"], "it is not one of debug, info, warning, error"),
        (["--callback-rate", "many"], "it is not a number"),
        (["--callback-rate", "nan"], "it is not a number"),
        (["--callback-burst", "0"], "it must be at least 1"),
        # The watch of the Organizations would hold the only connection.
        (["--connections", "1"], "it must be at least 2"),
        (["--grace", "10"], "it is not a duration; write it as in --grace 20s"),
        (["--lisen", "x:1"], "--lisen"),
        (["--listen"], "--listen: expected one argument"),
        (["stray"], "stray"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line_with_an_example(argv: list[str], told: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=re.escape(told)) as refusal:
        read(ReceiverSettings, argv, {})
    assert "\n" not in str(refusal.value)
    assert " as in --" in str(refusal.value)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("", False)])
def test_a_setting_that_is_true_or_false(text: str, value: bool) -> None:
    assert read(ControllerSettings, [], {"COUNTERFOIL_ALLOW_LOOPBACK": text}).allow_loopback is value
    with pytest.raises(ProcessSettingsInvalid, match="it is neither true nor false"):
        read(ControllerSettings, ["--allow-loopback", "yes"], {})


def test_the_addresses_of_the_node_are_those_of_the_pods_status() -> None:
    environ = {"COUNTERFOIL_NODE_ADDRESSES": "10.0.0.5,fd00::5"}
    assert list(map(str, read(PagesSettings, [], environ).node_addresses or ())) == ["10.0.0.5", "fd00::5"]
    with pytest.raises(ProcessSettingsInvalid, match="it is not a list of IP addresses"):
        read(PagesSettings, ["--node-addresses", "node-1"], {})


@pytest.mark.parametrize("argv", [["--shards", "65"], ["--shards", "0"]])
def test_an_impossible_number_of_shards_is_refused(argv: list[str]) -> None:
    with pytest.raises(ProcessSettingsInvalid, match="COUNTERFOIL_SHARDS"):
        read(ControllerSettings, argv, {})


@pytest.mark.parametrize(
    "url",
    [
        "callbacks.example.com",
        "https://",
        "ftp://callbacks.example.com",
        "https://callbacks.example.com/callbacks/acme/token",
        "https://callbacks.example.com?envelopeId=##EnvelopeId##",
    ],
)
def test_an_address_for_callbacks_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=r"COUNTERFOIL_CALLBACK_URL .*https://callbacks"):
        read(ControllerSettings, ["--callback-url", url], {})


@pytest.mark.parametrize(
    "url",
    ["https://callbacks.example.com", "http://10.0.0.7:8080/counterfoil/", "https://rückruf.example/straße"],
)
def test_an_address_for_callbacks_may_have_a_port_and_a_path(url: str) -> None:
    assert read(ControllerSettings, ["--callback-url", url], {}).callback_url == url


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--renew-deadline", "15s"], r"COUNTERFOIL_RENEW_DEADLINE .* less than --lease-duration \(15s\)"),
        (["--lease-duration", "10.9s"], r"COUNTERFOIL_LEASE_DURATION .* a Lease has whole seconds"),
        (["--lease-duration", "9s"], r"COUNTERFOIL_RENEW_DEADLINE .* less than --lease-duration \(9s\)"),
        (["--retry-period", "9s"], r"COUNTERFOIL_RETRY_PERIOD .* less than --renew-deadline \(10s\)"),
        (["--retry-period", "500ms"], "COUNTERFOIL_RETRY_PERIOD"),
        (
            ["--lease-duration", "10m", "--renew-deadline", "5m", "--retry-period", "61s"],
            "COUNTERFOIL_RETRY_PERIOD .* the maximum is 60 seconds",
        ),
    ],
)
def test_durations_of_a_lease_that_contradict_each_other_are_refused(argv: list[str], named: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=named):
        read(ControllerSettings, argv, {})


@pytest.mark.parametrize("argv", [["--lease-duration", f"{each}s"] for each in (3, 4, 5, 9, 10)])
def test_durations_of_a_lease_as_the_refusal_advises_are_accepted(argv: list[str]) -> None:
    for _ in range(2):
        try:
            read(ControllerSettings, argv, {})
        except ProcessSettingsInvalid as refused:
            argv = [*argv, *str(refused).rpartition("write it as in ")[2].split()]
    assert read(ControllerSettings, argv, {}).lease_duration < Duration(seconds=11)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sales", ("sales",)),
        (" sales , legal,sales", ("sales", "legal")),
        (",".join(f"n{number}" for number in range(50)), tuple(f"n{number}" for number in range(50))),
        ("a" * 63, ("a" * 63,)),
    ],
)
def test_namespaces_are_read_each_once(text: str, names: tuple[str, ...]) -> None:
    assert read(CommonSettings, [], {"COUNTERFOIL_NAMESPACES": text}).namespaces == names
    assert read(CommonSettings, [], {}).namespaces is None


@pytest.mark.parametrize(
    "text",
    [
        "sales,",
        "Sales",
        "sales.x",
        "-sales",
        "sales/../x",
        "sa\nles",
        "a" * 64,
        "sälle",
        "sales legal",
        ",".join(f"n{number}" for number in range(51)),
    ],
)
def test_names_that_are_no_namespaces_are_refused(text: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=r"COUNTERFOIL_NAMESPACES .*up to 50 names"):
        read(CommonSettings, [], {"COUNTERFOIL_NAMESPACES": text})


def test_a_process_with_a_bad_setting_ends_with_status_2_and_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        load(ControllerSettings, [], {"COUNTERFOIL_SHARDS": "one"})

    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "python -m controller: COUNTERFOIL_SHARDS (or --shards) is 'one': it is not a whole number;"
        " write it as in --shards 3"
    ]


@pytest.mark.parametrize("kind", EVERY_PROCESS)
def test_help_explains_each_setting_with_its_variable_and_default(
    kind: type[CommonSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        load(kind, ["--help"], {})

    assert end.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for each in describe_settings(kind):
        assert each.flag in told
        assert f"Environment: {each.variable}. Default: {each.default}." in told


def test_a_default_is_written_as_one_would_write_it() -> None:
    defaults = {each.name: each.default for each in describe_settings(ReceiverSettings)}

    assert (defaults["callback_rate"], defaults["namespace"]) == ("50", "not set")


@pytest.mark.parametrize("kind", EVERY_PROCESS)
def test_help_names_settings_by_their_flags(kind: type[CommonSettings]) -> None:
    names = [each.name for each in describe_settings(kind) if "_" in each.name]

    for each in describe_settings(kind):
        assert not [name for name in names if name in each.text]


@pytest.mark.parametrize("kind", EVERY_PROCESS)
def test_every_setting_has_an_explanation_and_an_example_that_is_accepted(kind: type[CommonSettings]) -> None:
    for each in describe_settings(kind):
        assert len(each.text) > 20
        assert each.text.endswith(".")
        each.read(each.example)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"COUNTERFOIL_OIDC_ISSUER": "http://login.example.com"}, "it must begin with https://"),
        ({"COUNTERFOIL_OIDC_CLIENT_ID": ""}, "--oidc-issuer requires it"),
        ({"COUNTERFOIL_PUBLIC_URL": ""}, "requires the console's address"),
        ({"COUNTERFOIL_PUBLIC_URL": "http://console.example.com"}, "with https"),
        ({"COUNTERFOIL_PUBLIC_URL": "http://127.0.0.1.example.com"}, "with https"),
        ({"COUNTERFOIL_PUBLIC_URL": "http://127.0.0.1@example.com"}, "with https"),
        ({"COUNTERFOIL_PUBLIC_URL": "https://console.example.com@example.com"}, "with https"),
        ({"COUNTERFOIL_PUBLIC_URL": "https://"}, "with https"),
        ({"COUNTERFOIL_PUBLIC_URL": "https://console.example.com?next="}, "without ? and #"),
        ({"COUNTERFOIL_SIGN_IN": "proxy"}, "the proxy signs users in"),
    ],
)
def test_an_openid_provider_that_cannot_be_used_is_refused(changed: dict[str, str], words: str) -> None:
    environ = {
        "COUNTERFOIL_OIDC_ISSUER": "https://login.example.com",
        "COUNTERFOIL_OIDC_CLIENT_ID": "counterfoil",
        "COUNTERFOIL_PUBLIC_URL": "https://console.example.com",
    }
    assert read(ConsoleSettings, [], environ).oidc_scopes == "openid email"
    with pytest.raises(ProcessSettingsInvalid, match=re.escape(words)):
        read(ConsoleSettings, [], {**environ, **changed})


PRODUCT = [
    path
    for package in ("controller", "counterfoil", "webhook")
    for path in (Path(__file__).parents[3] / package).rglob("*.py")
    if path.name != "settings.py"
]


def test_every_setting_is_read() -> None:
    read_names = {
        name for path in PRODUCT for name in re.findall(r"\.(\w+)", path.read_text(encoding="utf-8"))
    }
    settings = {each.name for kind in EVERY_PROCESS for each in fields(kind)}
    assert settings - read_names == set()


@pytest.mark.parametrize(
    "text", ["/archive/{namespace}", "/archive/{namespace}/", "/{namespace}", "/a/{namespace}/b"]
)
def test_the_place_of_the_volumes_has_a_folder_for_each_namespace(text: str) -> None:
    roots = read(ControllerSettings, [], {"COUNTERFOIL_VOLUME_ROOTS": text}).volume_roots
    assert roots is not None
    assert roots.of("unit-a") == text.rstrip("/").replace("{namespace}", "unit-a")


@pytest.mark.parametrize(
    "text",
    [
        "/archive",
        "archive/{namespace}",
        "{namespace}",
        "/archive/unit-{namespace}",
        "/archive/{namespace}/{namespace}",
        "/archive/../{namespace}",
        "/archive/{namespace}/..",
        "/archive/./{namespace}",
        "/archive//{namespace}",
        "/archive/{name}",
        "/",
    ],
)
def test_a_place_that_namespaces_would_share_is_refused(text: str) -> None:
    with pytest.raises(ProcessSettingsInvalid, match=r"COUNTERFOIL_VOLUME_ROOTS .*absolute path"):
        read(ControllerSettings, [], {"COUNTERFOIL_VOLUME_ROOTS": text})
