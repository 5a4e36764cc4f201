"""``python -m webhook``: which process, with which settings."""

import subprocess
import sys

import pytest

from webhook.__main__ import main


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "webhook", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("controller",)])
def test_without_a_known_process_it_ends_with_status_2_and_one_line(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert ended.stderr == "python -m webhook: say which process, as in python -m webhook receiver\n"


def test_a_bad_setting_ends_with_status_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["webhook", "receiver"])
    monkeypatch.setenv("COUNTERFOIL_LISTEN", "nowhere")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "COUNTERFOIL_LISTEN" in errors


def test_without_a_way_to_an_api_server_it_reports_it_and_ends() -> None:
    ended = run("receiver", "--log-format=text", KUBECONFIG="/nonexistent/kubeconfig")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "/nonexistent/kubeconfig leads to no API server" in ended.stderr


def test_the_pages_say_which_setting_they_can_not_do_without() -> None:
    ended = run("pages", "--log-format=text")
    assert ended.returncode == 1
    assert "COUNTERFOIL_SEALING_KEYS is not set" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_receiver_does_not_load_what_only_the_pages_need() -> None:
    code = (
        "import sys, webhook.__main__, webhook.receiver.app; print([m for m in sys.modules if 'esaw' in m or "
        "'jinja2' in m or 'pages' in m])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert loaded.stdout == "[]\n"
