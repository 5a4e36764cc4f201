"""
The layout: names and tags of one envelope, repeatable.
"""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.layout import ActionFacts, ArchiveLayout, make_layout, no_claims, problems
from counterfoil.archives.names import case_folded
from counterfoil.archives.tags import TagMissing
from counterfoil.resources.archive import TagRule
from counterfoil.resources.envelopeevent import FileKind
from sandbox.esaw.core.filenames import AWKWARD_NAMES
from tests.support.fakes.archives import ENVELOPE_ID, a_file, a_layout, a_spec, an_envelope, files_named


def test_by_default_a_file_goes_under_organization_envelope_and_kind() -> None:
    layout = a_layout(a_file("contract.pdf"))

    assert layout.folder == f"acme/{ENVELOPE_ID}"
    assert [file.name for file in layout.files] == [f"acme/{ENVELOPE_ID}/Document/contract.pdf"]
    assert [
        layout.relative(name) for name in (layout.manifest_name, layout.hashes_name, layout.seal_name)
    ] == [
        "counterfoil.json",
        "counterfoil.sha256",
        "counterfoil.json.sig",
    ]
    assert layout.manifest_name == f"acme/{ENVELOPE_ID}/counterfoil.json"


def test_every_placeholder_finds_its_value() -> None:
    path = (
        "{{organization}}/{{envelope.id}}/{{envelope.name}}/{{envelope.status}}/{{envelope.sentDate}}/{{sender.email}}"
        "/{{sender.userID}}/{{tags.no}}/{{file.kind}}/{{file.number}}/{{file.name}}"
    )
    spec = a_spec(path=path, tags={"no": TagRule(json_path="$.no")})

    layout = a_layout(a_file(number=3), envelope=an_envelope(metadata='{"no": "47/11"}'), spec=spec)

    assert layout.files[0].name == (
        f"acme/{ENVELOPE_ID}/Contract/Completed/2026-03-01/ann@acme.example/u-1/47_11/Document/3/contract.pdf"
    )


def test_a_tag_that_is_not_there_leaves_a_line() -> None:
    spec = a_spec(path="{{tags.no}}/{{envelope.id}}/{{file.name}}", tags={"no": TagRule(json_path="$.no")})

    assert a_layout(spec=spec).folder == f"_/{ENVELOPE_ID}"


def test_a_required_tag_that_is_not_there_stops_the_layout() -> None:
    with pytest.raises(TagMissing):
        a_layout(spec=a_spec(tags={"no": TagRule(json_path="$.no", required=True)}))


def test_a_parameter_that_several_callbacks_have_is_that_of_the_first() -> None:
    actions = (
        ActionFacts("workstepFinished", "2026-03-01T09:00:00Z"),
        ActionFacts("envelopeFinished", "2026-03-01T09:30:00Z", {"orderNo": "1"}),
        ActionFacts("envelopeCompleted", "2026-03-01T10:00:00Z", {"orderNo": "2", "tenant": "a"}),
    )
    spec = a_spec(tags={name: TagRule(callback=name) for name in ("orderNo", "tenant")})

    layout = a_layout(envelope=replace(an_envelope(), actions=actions), spec=spec)

    assert layout.tags == {"orderNo": "1", "tenant": "a"}


def test_files_without_a_usable_name_are_called_by_what_they_are() -> None:
    files = [a_file("", kind=kind, number=2) for kind in FileKind]

    assert [file.name.rpartition("/")[2] for file in a_layout(*files).files] == [
        "document-2.pdf",
        "attachment-2",
        "audit-trail-2.pdf",
        "audit-trail-2.xml",
        "legal-document-2.pdf",
    ]


def test_files_of_one_name_are_numbered_in_the_order_of_esaw() -> None:
    spec = a_spec(path="{{envelope.id}}/{{file.name}}")
    files = [a_file("a.pdf", number=2), a_file("A.pdf", kind=FileKind.ATTACHMENT), a_file("a.pdf", number=1)]

    layout = a_layout(*files, spec=spec)

    assert [(file.facts.file_id, file.name.rpartition("/")[2]) for file in layout.files] == [
        ("Document-1", "a.pdf"),
        ("Document-2", "a (2).pdf"),
        ("Attachment-1", "A (3).pdf"),
    ]


def test_a_file_is_never_called_like_the_manifest_or_the_hash_file() -> None:
    spec = a_spec(path="{{envelope.id}}/{{file.name}}")

    layout = a_layout(*files_named("counterfoil.json", "COUNTERFOIL.SHA256"), spec=spec)

    assert [layout.relative(file.name) for file in layout.files] == [
        "counterfoil_.json",
        "COUNTERFOIL_.SHA256",
    ]


@given(st.lists(st.sampled_from(AWKWARD_NAMES), max_size=30), st.randoms(use_true_random=False))
def test_the_layout_does_not_depend_on_the_order_in_which_files_are_listed(
    names: list[str], chance: random.Random
) -> None:
    files = files_named(*names)
    shuffled = chance.sample(files, len(files))

    assert make_layout(a_spec(), an_envelope(), files, claimed=no_claims) == make_layout(
        a_spec(), an_envelope(), shuffled, claimed=no_claims
    )


@given(st.lists(st.text(max_size=300), max_size=30), st.text(max_size=300))
def test_with_any_names_all_files_stay_apart_and_in_the_envelopes_folder(
    names: list[str], title: str
) -> None:
    spec = a_spec(path="{{envelope.name}}/{{envelope.id}}/{{file.kind}}/{{file.name}}")

    layout = make_layout(spec, an_envelope(name=title), files_named(*names), claimed=no_claims)

    assert len({file.name.casefold() for file in layout.files}) == len(names)
    for file in layout.files:
        assert file.name.startswith(f"{layout.folder}/Document/")
        assert file.name.count("/") == 3
        assert ".." not in file.name.split("/")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PDF", "application/pdf"),
        ("a.xml", "application/xml"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_content_type_comes_from_the_extension(name: str, content_type: str) -> None:
    assert a_layout(a_file(name)).files[0].content_type == content_type


def test_what_is_wrong_with_a_spec_is_reported_in_one_sentence_each() -> None:
    spec = a_spec(path="{{file.name}}", tags={"no": TagRule(xpath="//["), "who": TagRule()})

    faults = problems(spec)

    assert [fault.partition(":")[0] for fault in faults] == ["spec.path", "spec.tags.no", "spec.tags.who"]
    with pytest.raises(SettingsInvalid, match="Correct the Archive"):
        a_layout(spec=spec)


def test_200_files_of_one_name_have_200_names() -> None:
    layout = a_layout(*files_named(*["same.pdf"] * 200))

    assert len({file.name for file in layout.files}) == 200
    assert layout.files[199].name.endswith("/same (200).pdf")


def claims_of(layout: ArchiveLayout) -> dict[tuple[str, FileKind], str]:
    return {(each.facts.file_id, each.facts.kind): each.name for each in layout.files}


@pytest.mark.parametrize("path", ["{{file.name}}", "{{file.number}}-{{file.name}}"])
@given(st.lists(st.sampled_from(AWKWARD_NAMES), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_no_list_gives_the_claimed_name_of_a_file_to_another_file(
    path: str, names: list[str], chance: random.Random
) -> None:
    spec = a_spec(path=f"{{{{envelope.id}}}}/{path}")
    files = files_named(*names)
    claims = claims_of(
        make_layout(
            spec, an_envelope(), chance.sample(files, chance.randint(0, len(files))), claimed=no_claims
        )
    )
    order = chance.sample(files, len(files))
    renumbered = [replace(each, number=number) for number, each in enumerate(order, 1)]
    layout = make_layout(spec, an_envelope(), renumbered, claimed=lambda folder: claims)
    owners = {case_folded(name): key for key, name in claims.items()}
    for file in layout.files:
        key = (file.facts.file_id, file.facts.kind)
        assert owners.get(case_folded(file.name), key) == key
    assert len({case_folded(each.name) for each in layout.files}) == len(files)
    again = make_layout(spec, an_envelope(), renumbered, claimed=lambda folder: claims_of(layout))
    assert again == layout
