"""The commands of a page, as its reader types them, and the lines that they have to print."""

from pathlib import Path

import pytest

from tests.support.console_blocks import ConsoleCommand, console_commands, missing_lines, protocol, typed

PAGE = """
Text.

```console
$ echo one   # a comment
one
$ echo two \\
    three
two three
$ echo four |
    cat
$ cat > file <<'EOF'
$ no command
EOF
```

```text
$ not typed
```

1. A step:
   ```console
   $ echo indented
     indented output
   $ echo twice
   ```
"""


def test_commands_are_found_with_their_continuation_here_document_and_output() -> None:
    assert console_commands(PAGE) == [
        ConsoleCommand("echo one   # a comment", ["one"]),
        ConsoleCommand("echo two \\\n    three", ["two three"]),
        ConsoleCommand("echo four |\n    cat", []),
        ConsoleCommand("cat > file <<'EOF'\n$ no command\nEOF", []),
        ConsoleCommand("echo indented", ["  indented output"]),
        ConsoleCommand("echo twice", []),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "missing"),
    [
        (["a b"], "x\na    b\ny", []),
        (["a", "b"], "b\na", ["b"]),
        (["acme   …   Ready"], "acme  12s  yes  Ready", []),
        (["…: OK"], "contract.pdf: OK", []),
        (["a.c"], "abc", ["a.c"]),
        (["", "a"], "a", []),
        ([], "", []),
    ],
)
def test_the_first_line_that_was_not_printed_in_its_place_is_named(
    expected: list[str], printed: str, missing: list[str]
) -> None:
    assert missing_lines(expected, printed) == missing


async def test_typing_ends_at_the_first_command_that_fails_and_keeps_variables(tmp_path: Path) -> None:
    commands = [ConsoleCommand(each) for each in ("A=1", "echo $A", "sleep 600 & false", "echo never")]
    done = await typed(commands, tmp_path, {"PATH": "/usr/bin:/bin"}, seconds=60)
    assert (done.status, [each.strip() for each in done.printed]) == (1, ["", "1", ""])


async def test_the_protocol_has_each_command_that_was_typed_with_its_seconds(tmp_path: Path) -> None:
    commands = [ConsoleCommand(each) for each in ("echo one", "cat <<END\ntwo\nEND")]
    done = await typed(commands, tmp_path, {"PATH": "/usr/bin:/bin"}, seconds=60)
    assert (done.status, [each.strip() for each in done.printed], len(done.seconds)) == (0, ["one", "two"], 2)
    lines = protocol(commands, done).splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == ["echo one", "cat <<END", "in all"]
