"""The people of the campaign who change copies and routes do what the product and its checks know."""

from typing import Any

from counterfoil.resources import Organization
from counterfoil.resources.imports import Import
from tests.support.builders import an_organization
from verification.chaos.copies import (
    COPY_CHANGES,
    PLANNED,
    PLANNED_ROUTES,
    ROUTE_CHANGES,
    copies_of,
    import_of,
    wrong_files,
)


def organization(**spec: Any) -> Organization:
    return an_organization(**spec)


def test_each_change_of_copies_is_what_the_product_reads() -> None:
    for change in (PLANNED, *COPY_CHANGES):
        read = organization(copies=copies_of(change)).spec.copies
        assert {each.archive_ref.name: each.required for each in read} == dict(change)


def test_the_required_copy_is_optional_or_gone_in_some_changes_and_the_optional_one_required() -> None:
    assert {change.get("worm") for change in COPY_CHANGES} == {True, False, None}
    assert {change.get("mirror") for change in COPY_CHANGES} == {True, False, None}


def test_each_change_of_routes_is_what_the_product_reads() -> None:
    for change in (PLANNED_ROUTES, *ROUTE_CHANGES):
        assert len(organization(routes=list(change)).spec.routes) == len(change)


def test_an_import_only_makes_copies() -> None:
    made = import_of(3)
    assert made["metadata"]["name"] == "copies-3"
    assert Import.parse({**made, "metadata": {**made["metadata"], "namespace": "x"}}).spec.copies_only


def test_a_person_removes_planted_files_and_documents_with_other_bytes_and_nothing_else() -> None:
    original = {"acme/e1/Document/a.pdf": b"a", "acme/e1/counterfoil.json": b"{}"}
    copy = {
        "worm/acme/e1/Document/a.pdf": b"a",
        "worm/acme/e1/Document/b.pdf": b"corrupted",
        "worm/acme/e1/counterfoil.json": b"other manifest",
        "worm/acme/e1/counterfoil.sha256": b"planted",
    }
    planted = {"worm/acme/e1/counterfoil.sha256": b"planted", "worm/acme/e1/counterfoil.json": b"planted"}
    assert wrong_files(copy, original, planted) == [
        "worm/acme/e1/Document/b.pdf",
        "worm/acme/e1/counterfoil.sha256",
    ]
