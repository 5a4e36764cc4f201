"""
Tags: what an Archive's rules find in the metadata of an envelope, or in the URL of its callback.

A sender's page or API client writes the metadata, so it is read as untrusted text: bounded, no
DTD, no entities, no network. The rules are the administrator's; ``problems`` tells what is wrong with them
before the first envelope comes.

A rule that finds several values takes the first that is not empty, in document order: a tag is one short text
that may become part of a path. Objects and arrays are no values; write a path that leads to what is in them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jsonpath
import jsonpath.exceptions
from lxml import etree

from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.names import ENVELOPE_FIELDS, NOT_TEXT, fill, unknown_placeholders
from counterfoil.resources.archive import TagRule

METADATA_LIMIT = 1024 * 1024
"""Bytes of UTF-8; metadata beyond that is not read."""

VALUE_LIMIT = 1024
"""Characters; longer values are cut."""

MAX_KNOWN_RULES = 8 * 1024
"""Rules whose check is remembered: those of 128 Archives with the most rules, in 9 MiB at most."""

_NOT_TEXT = re.compile(f"[{NOT_TEXT}]+")
_JSONPATH = jsonpath.JSONPathEnvironment(strict=True)

# XPath compiles with any function in it, and would then find nothing in any document. These there are: the
# core library (XPath 1.0, section 4), and node tests and operators, which can stand before a parenthesis,
# too.
_XPATH_WORD = re.compile(
    "last|position|count|id|local-name|namespace-uri|name|string|concat|starts-with|contains|substring-before|substring-after"
    "|substring|string-length|normalize-space|translate|boolean|not|true|false|lang|number|sum|floor|ceiling|round"
    "|node|text|comment|processing-instruction|and|or|div|mod"
)
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"")
# From the beginning of a name only, or a long name takes a time that grows with its square.
_FUNCTION_CALL = re.compile(r"(?<![\w.:-])(?:[\w-]+::)?([\w.:-]+)\s*\(")


class TagMissing(ArchiveError):
    """A required tag for which the rule finds nothing."""

    def __init__(self, name: str, rule: TagRule) -> None:
        where = "the envelope's metadata"
        if rule.callback is not None:
            where = "the parameters that the Organization took from the URL of the callback"
        super().__init__(
            "TagMissing",
            f"The tag `{name}` is required, but {_describe(rule)} finds nothing in {where}. "
            f"Correct spec.tags.{name} of the Archive, or make it not required.",
        )
        self.name = name
        self.rule = rule


class MetadataUnreadable(ArchiveError):
    """A required tag would come from metadata that can't be read."""

    def __init__(self, why: str) -> None:
        super().__init__("MetadataUnreadable", f"The envelope's metadata can't be read: {why}.")
        self.why = why


class MetadataTooHeavy(ArchiveError):
    """The evaluation of a rule on the metadata exceeded the limits of its process."""

    def __init__(self, name: str, rule: TagRule, limits: str) -> None:
        super().__init__(
            "MetadataTooHeavy",
            f"The tag `{name}` can't be determined: {_describe(rule)} takes more than {limits} on the "
            f"envelope's metadata. Simplify spec.tags.{name} of the Archive, or correct the application that "
            "writes the metadata.",
        )
        self.name = name
        self.rule = rule


class FoundTags(NamedTuple):
    """The values that rules find for one envelope."""

    values: dict[str, str]
    """By name, in the order of the names. A rule that finds nothing is not among them."""
    unsure: dict[str, str]
    """Why the value of a tag is not known, by name: the metadata is neither well-formed XML nor JSON, so
    there is no value; or the value was cut."""


def find(
    rules: Mapping[str, TagRule],
    metadata: str | None,
    fields: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
    *,
    on_rule: Callable[[str], None] = lambda _: None,
) -> FoundTags:
    """
    Return what the rules find for one envelope.

    ``fields`` are what ``value`` rules may use, and ``parameters`` what ``callback`` rules may. ``on_rule``
    gets the name of each tag before its rule is evaluated.

    Raises ``TagMissing``, or ``MetadataUnreadable`` if that is why a required tag is missing.
    """
    text = MetadataText(metadata or "")
    by_name = {name.lower(): value for name, value in (parameters or {}).items()}
    found = FoundTags({}, {})
    for name, rule in sorted(rules.items()):
        on_rule(name)
        try:
            value = next(filter(None, map(_trimmed, _values(rule, text, fields, by_name))), None)
        except MetadataUnreadable as unreadable:
            if rule.required:
                raise
            if not text.is_other_notation(rule):
                found.unsure[name] = f"the envelope's metadata can't be read, since {unreadable.why}"
            continue
        if value is not None:
            found.values[name] = _cut(value)
            if len(value) > VALUE_LIMIT:
                found.unsure[name] = f"its value is longer than {VALUE_LIMIT:,} characters, so it was cut"
        elif rule.required:
            raise TagMissing(name, rule)
    return found


def collect(
    rules: Mapping[str, TagRule],
    metadata: str | None,
    fields: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the tags of one envelope in the order of their names, without those that are not known. The
    parameters and errors are those of ``find``."""
    return find(rules, metadata, fields, parameters).values


def problems(rules: Mapping[str, TagRule]) -> list[str]:
    """Return what is wrong with the rules themselves, one sentence each; none when all of them can work."""
    return [
        f"spec.tags.{name}: {fault}"
        for name, rule in sorted(rules.items())
        if (fault := _rule_error(rule)) is not None
    ]


def reads_metadata(rule: TagRule) -> bool:
    """Whether the rule reads the metadata."""
    return rule.xpath is not None or rule.json_path is not None


def normalize(value: str) -> str:
    """Trim a value, turn control characters and what is no character into single spaces, and cut it to 1,024
    characters."""
    return _cut(_trimmed(value))


@dataclass(frozen=True)
class MetadataText:
    """The metadata of an envelope, parsed at most once per notation, and only when a rule needs it."""

    text: str

    @cached_property
    def xml(self) -> etree._Element | None:
        """The root element, None for empty metadata. Raises ``MetadataUnreadable``."""
        text = self._bounded().lstrip("\ufeff \t\r\n")
        if not text:
            return None
        if "<!DOCTYPE" in text:
            raise MetadataUnreadable("it has a document type declaration, which is never read")
        parser = etree.XMLParser(
            encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        )
        try:
            return etree.fromstring(text.encode(), parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise MetadataUnreadable("it is not well-formed XML") from error

    @cached_property
    def json(self) -> Any:
        """The parsed JSON, None for empty metadata. Raises ``MetadataUnreadable``."""
        text = self._bounded().lstrip("\ufeff \t\r\n")
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MetadataUnreadable("it is not JSON") from error

    def is_other_notation(self, rule: TagRule) -> bool:
        """Whether it is well-formed in the notation that the rule does not read, so the rule certainly finds
        nothing."""
        try:
            _ = self.json if rule.xpath is not None else self.xml
        except MetadataUnreadable:
            return False
        return True

    def _bounded(self) -> str:
        # Every character has at least one byte, so the first check is cheap.
        if len(self.text) > METADATA_LIMIT or len(self.text.encode(errors="replace")) > METADATA_LIMIT:
            raise MetadataUnreadable("it is longer than 1 MiB")
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise MetadataUnreadable("it has halves of characters") from error
        return self.text


def _trimmed(value: str) -> str:
    return _NOT_TEXT.sub(" ", value).strip()


def _cut(value: str) -> str:
    return value[:VALUE_LIMIT].rstrip()


def _values(
    rule: TagRule, metadata: MetadataText, fields: Mapping[str, str], parameters: Mapping[str, str]
) -> Iterator[str]:
    if rule.xpath is not None:
        yield from _by_xpath(rule.xpath, metadata.xml)
    elif rule.json_path is not None:
        yield from _by_jsonpath(rule.json_path, metadata.json)
    elif rule.callback is not None:
        yield parameters.get(rule.callback.lower(), "")
    elif rule.value is not None:
        yield fill(rule.value, fields)


def _by_xpath(expression: str, root: etree._Element | None) -> Iterator[str]:
    if root is None:
        return
    # Prefixes that the root declares may be used in the rule; its default namespace goes by the prefix
    # "default".
    namespaces = {prefix or "default": uri for prefix, uri in root.nsmap.items()}
    try:
        result = etree.XPath(expression, namespaces=namespaces, regexp=False, smart_strings=False)(root)
    except etree.XPathError:
        # A prefix that this document does not declare, or a function on nodes that it does not have: no
        # match.
        return
    for each in result if isinstance(result, list) else [result]:
        yield _xml_text(each)


def _xml_text(found: Any) -> str:
    if isinstance(found, etree._Element):
        return "".join(str(text) for text in found.itertext())
    return _scalar(found) or ""


def _by_jsonpath(expression: str, document: Any) -> Iterator[str]:
    if document is None:
        return
    if isinstance(document, str):
        # The library decodes a text as JSON, and fails for some texts; from this it gets the text itself.
        document = json.dumps(document)
    try:
        # One by one, since there can be more than memory holds.
        for match in _JSONPATH.finditer(expression, document):
            if (text := _scalar(match.value)) is not None:
                yield text
    except (jsonpath.exceptions.JSONPathRecursionError, RecursionError) as error:
        raise MetadataUnreadable("it is nested too deeply for the jsonPath") from error
    except jsonpath.JSONPathError:
        return


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


@lru_cache(maxsize=MAX_KNOWN_RULES)
def _rule_error(rule: TagRule) -> str | None:
    given = [name for name, value in _expressions(rule).items() if value is not None]
    if len(given) != 1:
        return "exactly one of xpath, jsonPath, callback and value must be set"
    if rule.xpath is not None:
        return _xpath_error(rule.xpath)
    if rule.json_path is not None:
        return _compile_error(lambda: _JSONPATH.compile(rule.json_path or ""), "jsonPath")
    unknown = unknown_placeholders(rule.value or "", ENVELOPE_FIELDS)
    return f"value has placeholders that do not exist: {', '.join(unknown)}" if unknown else None


def _xpath_error(expression: str) -> str | None:
    if (fault := _compile_error(lambda: etree.XPath(expression, regexp=False), "xpath")) is not None:
        return fault
    called = _FUNCTION_CALL.findall(_LITERAL.sub("", expression))
    unknown = [f"{name}()" for name in called if not _XPATH_WORD.fullmatch(name)]
    return f"the xpath has functions that do not exist: {', '.join(unknown)}" if unknown else None


def _compile_error(compile_it: Callable[[], object], notation: str) -> str | None:
    try:
        compile_it()
    except (etree.XPathError, jsonpath.JSONPathError, ValueError) as error:
        # Not str(error): for an empty text, that of jsonpath raises another error.
        return f"the {notation} does not compile: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else "").partition("\n")[0]


def _expressions(rule: TagRule) -> dict[str, str | None]:
    return {
        "xpath": rule.xpath,
        "jsonPath": rule.json_path,
        "callback": rule.callback,
        "value": rule.value,
    }


def _describe(rule: TagRule) -> str:
    notation, expression = next(
        (pair for pair in _expressions(rule).items() if pair[1] is not None), ("rule", "")
    )
    return f"the {notation} `{expression}`"
