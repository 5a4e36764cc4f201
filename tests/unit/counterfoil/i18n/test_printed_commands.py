"""Each command about a reason can be typed as it is printed, and names an object that the reason is about."""

import json
import shlex

import pytest

from counterfoil.cli.plugin import entry_point
from counterfoil.i18n.commands import commands_in
from counterfoil.resources import Language
from tests.support.advice import (
    MESSAGES,
    NAMESPACE,
    OBJECTS,
    Advice,
    catalogue_commands,
    printed_commands,
)

PRINTED = sorted(set(printed_commands()), key=lambda each: (each.reason, each.kind, each.line))
PARSER, PARSERS = entry_point.parsers()
OF_PLUGIN = [each for each in PRINTED if each.line.startswith("kubectl counterfoil ")]
OF_KUBECTL = [each for each in PRINTED if each not in OF_PLUGIN]
PLACEHOLDERS = {"NAME"}
EXAMPLES = {"DATE": "2019-01-31"}
"""Values of placeholders that the plugin refuses as they are."""
KINDS = {
    "archive",
    "archives",
    "envelopeevent",
    "envelopeevents",
    "ee",
    "import",
    "organization",
    "pods",
    "sender",
    "senders",
}


def test_there_are_commands_for_the_plugin_and_for_kubectl() -> None:
    assert len(OF_PLUGIN) > 100
    assert len(OF_KUBECTL) > 100


@pytest.mark.parametrize("reason", sorted({each.reason for each in OF_PLUGIN}))
def test_the_plugin_reads_each_of_its_commands_and_the_command_is_about_this_reason(reason: str) -> None:
    for each in OF_PLUGIN:
        if each.reason != reason:
            continue
        found = vars(PARSER.parse_args(shlex.split(each.line)[2:]))
        assert found["namespace"] == NAMESPACE, each
        if found["command"] in ("retry", "skip"):
            assert found["reason"] == reason, each
            assert found["selector"] == "counterfoil.dev/organization=acme", each
            assert found["dry_run"] or found["command"] == "retry", each
        elif found["command"] == "copy":
            # It changes no event that lacks no copy.
            assert found["selector"] == "counterfoil.dev/organization=acme" or found["events"], each
        else:
            named = {found.get(key) for key in ("event", "sender", "organization", "name")} - {None}
            assert {*named, *found.get("objects", ())} & OBJECTS, each


def words_of(each: Advice) -> list[str]:
    words = shlex.split(each.line)
    assert words[:3] == ["kubectl", "-n", NAMESPACE], each
    return words[3:]


@pytest.mark.parametrize("reason", sorted({each.reason for each in OF_KUBECTL}))
def test_each_command_of_kubectl_names_objects_of_its_reason_only(reason: str) -> None:
    for each in OF_KUBECTL:
        if each.reason != reason:
            continue
        verb, *rest = words_of(each)
        if verb == "create" and "<<<" in rest:
            made = json.loads(rest[-1])
            rest = [made["kind"].lower(), made["metadata"]["name"]]
        elif verb == "create":
            assert (rest[1], rest.count("|")) == ("generic", 2), each
            rest = [rest[0], rest[2]]
        assert rest[0] in KINDS | {"secret"}, each
        if len(rest) > 1 and not rest[1].startswith("-") and "=" not in rest[1]:
            assert rest[1] in OBJECTS | PLACEHOLDERS, each


@pytest.mark.parametrize("reason", MESSAGES)
def test_each_command_of_a_message_is_printed_below_it(reason: str) -> None:
    quoted = MESSAGES[reason].count("`kubectl ")
    assert quoted
    assert len(commands_in(MESSAGES[reason], reason, NAMESPACE)) == quoted


@pytest.mark.parametrize("language", Language)
def test_the_catalogue_has_the_same_commands_in_each_language_and_the_plugin_reads_its_own(
    language: Language,
) -> None:
    found = list(catalogue_commands(language))
    assert found == list(catalogue_commands(Language.ENGLISH))
    for reason, line in found:
        words = shlex.split(line)
        if words[:2] == ["kubectl", "counterfoil"]:
            # A text names a command, or has it with a placeholder.
            assert words[2] in PARSERS, reason
            if len(words) > 3:
                PARSER.parse_args([EXAMPLES.get(each, each) for each in words[2:]])
