"""
Routes and copies of an Organization: which Archives an envelope goes to. The types, and what an event has
chosen.

The first route whose conditions all hold decides; if none holds, ``spec.archiveRef`` does
(``controller.reconcile.routing``). ``spec.archiveRef`` of an Import counts in place of them for the envelopes
that it brings. An event chooses once. Its choice is stored before the first file is
written, and counts for each of its attempts until it ends, also if the routes change. What was archived with
a manifest stays where it is.

A copy is made from that first archive after its proof, in the phase Copying (docs/decisions/0068). Here is
what an event has open. Whether a copy is proved is decided in ``counterfoil.archives.proof`` only. Pure.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, ClassVar, NamedTuple, Protocol

from msgspec.structs import replace

from counterfoil.resources.base import (
    ARCHIVE_NAME,
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    ROUTE_NAME,
    SENDER_NAME,
    LocalObjectReference,
    ResourcePart,
    ValidationRule,
    names_of_map,
    schema,
)
from counterfoil.resources.conditions import find_condition, is_condition_true
from counterfoil.resources.envelopeevent import (
    COPY_INVALID,
    MAX_COPIES,
    MISSING_COPY_REASONS,
    PHASE_CONDITIONS,
    ArchiveLocation,
    AttemptOutcome,
    AwaitedArchive,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    FiledDocument,
    Phase,
)
from counterfoil.resources.naming import ACTION_RULE, PATTERN_RULE, TAG_NAME_RULE

MAX_ROUTES = 32
MAX_ROUTE_TAGS = 4
"""Maximum number of tags that one route looks at."""


MAX_ROUTE_PATTERNS = 16
"""Maximum number of patterns in the routes of one Organization; each takes some 10 ms at most."""

PATTERN_COUNT_RULE = ValidationRule(
    "self.map(route, has(route.when.tags) ? route.when.tags.filter(name, "
    "has(route.when.tags[name].pattern)).size() : 0).sum() <= "
    f"{MAX_ROUTE_PATTERNS}",
    f"the routes of an Organization have at most {MAX_ROUTE_PATTERNS} patterns; list values where you can",
)


class RouteTag(ResourcePart, frozen=True):
    """The values of a tag with which a route holds: exactly one of `values` and `pattern`."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "has(self.values) != has(self.pattern)",
            "a tag of a route has either values or a pattern",
        ),
    )

    values: Annotated[
        tuple[Annotated[str, schema("One value.", minLength=1, maxLength=256)], ...],
        schema(
            "The whole value is one of these. Upper and lower case differ. Example: HR.",
            minItems=1,
            maxItems=32,
        ),
    ] = ()
    pattern: Annotated[
        str | None,
        schema(
            "Regular expression (RE2, at most 256 KiB compiled) that the whole value must match. Example: "
            "4[0-9]{3}.",
            PATTERN_RULE,
            minLength=1,
            maxLength=256,
        ),
    ] = None


class RouteConditions(ResourcePart, frozen=True):
    """The conditions of a route, at least one. All that are given must hold."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "has(self.tags) || has(self.senders) || has(self.actions) || has(self.statuses)",
            "a route has at least one of tags, senders, actions and statuses; for all other envelopes set "
            "archiveRef of the Organization",
        ),
    )

    tags: Annotated[
        dict[str, RouteTag],
        schema(
            "Tags by their names, as `spec.tags` of the route's own Archive defines them. All of them must "
            "match. A tag that the envelope does not have matches nothing.",
            names_of_map(TAG_NAME_RULE),
            minProperties=1,
            maxProperties=MAX_ROUTE_TAGS,
        ),
    ] = {}
    senders: Annotated[
        tuple[Annotated[str, SENDER_NAME], ...],
        schema(
            "The Sender (same namespace) whose key reads the envelope is one of these. Example: anna.",
            minItems=1,
            maxItems=64,
        ),
    ] = ()
    actions: Annotated[
        tuple[Annotated[str, schema("An action in any letter case.", ACTION_RULE, maxLength=64)], ...],
        schema(
            "The action of the event is one of these. Example: envelopeFinished.", minItems=1, maxItems=32
        ),
    ] = ()
    statuses: Annotated[
        tuple[
            Annotated[
                str,
                schema("A final status of eSAW.", enum=["Completed", "Rejected", "Canceled", "Expired"]),
            ],
            ...,
        ],
        schema("The status of the envelope is one of these. Example: Rejected.", minItems=1, maxItems=4),
    ] = ()

    def __str__(self) -> str:
        """Return the conditions in words: ``the tag `area` is HR or IT, and the Sender is Sender/anna``."""
        parts = [f"the tag `{name}` {_tag_text(tag)}" for name, tag in sorted(self.tags.items())]
        senders = [f"Sender/{each}" for each in self.senders]
        parts += [f"the Sender is {_either(senders)}"] if senders else []
        parts += [f"the action is {_either(self.actions)}"] if self.actions else []
        parts += [f"the status is {_either(self.statuses)}"] if self.statuses else []
        return ", and ".join(parts)


class ArchiveRoute(ResourcePart, frozen=True):
    """One Archive, and the conditions under which an envelope goes there."""

    name: Annotated[str, ROUTE_NAME]
    archive_ref: Annotated[
        LocalObjectReference,
        schema("The Archive (same namespace) of the documents.", parts={"name": ARCHIVE_NAME}),
    ]
    when: RouteConditions

    @property
    def has_pattern(self) -> bool:
        """Whether it compares a tag with a pattern, which takes some 10 ms: not in an event loop."""
        return any(each.pattern is not None for each in self.when.tags.values())


class Choice(NamedTuple):
    """The Archive of an event."""

    archive: str
    route: str | None
    """The route that led there; None: ``spec.archiveRef``."""
    import_: str | None = None
    """The Import whose ``spec.archiveRef`` led there; None: that of the Organization."""

    def __str__(self) -> str:
        """Return it in words, as in ``Archive/hr by the route `hr```."""
        how = f"the route `{self.route}`" if self.route is not None else "spec.archiveRef"
        of = f" of Import/{self.import_}" if self.import_ is not None else ""
        return f"Archive/{self.archive} by {how}{of}"

    @property
    def location(self) -> ArchiveLocation:
        """The choice as a status has it before the manifest is written."""
        ref = LocalObjectReference(name=self.archive)
        return ArchiveLocation(ref=ref, route=self.route, import_=self.import_)

    @property
    def awaited(self) -> AwaitedArchive:
        """The choice as a status has it while files of an earlier start have places elsewhere."""
        ref = LocalObjectReference(name=self.archive)
        return AwaitedArchive(ref=ref, route=self.route, import_=self.import_)


class KeptChoice(NamedTuple):
    """The Archive in which an event of an envelope has files."""

    choice: Choice
    event: str
    since: datetime | None
    """When the event had listed its files there, or the latest earlier time that is known, such as its
    creation."""

    def may_be_in(self, created: datetime | None) -> bool:
        """
        Whether an Archive of this name that was ``created`` then can have the files.

        One that was created later is another one: who may create Archives must not get documents by the name
        of one that was deleted.
        """
        return created is None or self.since is None or created <= self.since

    @property
    def awaited(self) -> AwaitedArchive:
        """The Archive as another event has it in its status while it waits for it."""
        return replace(self.choice.awaited, event=self.event)


class CopySpec(ResourcePart, frozen=True):
    """One more Archive for each archived envelope."""

    archive_ref: Annotated[
        LocalObjectReference,
        schema("The Archive (same namespace) of the copy.", parts={"name": ARCHIVE_NAME}),
    ]
    required: Annotated[
        bool,
        schema(
            "True: the envelope is deleted in eSAW only after this copy is proved. False: a copy that is "
            "missing is reported and retried, and nothing waits for it. Default true."
        ),
    ] = True


class CopiedSpec(Protocol):
    """The part of an Organization's spec that names copies."""

    @property
    def copies(self) -> Sequence[CopySpec]:
        """The copies of each archived envelope."""


class RoutedSpec(CopiedSpec, Protocol):
    """The part of an Organization's spec that names Archives."""

    @property
    def archive_ref(self) -> LocalObjectReference | None:
        """The Archive where no route holds."""

    @property
    def routes(self) -> Sequence[ArchiveRoute]:
        """The routes in their order."""


def stored_choice(status: EnvelopeEventStatus) -> Choice | None:
    """Return the choice that a status has; None: the event has not chosen."""
    stored = status.archive
    return Choice(stored.ref.name, stored.route, stored.import_) if stored is not None else None


def awaited_choice(status: EnvelopeEventStatus) -> Choice | None:
    """Return the Archive that a status says the event waits for; None: none, or it starts again."""
    awaited = status.awaited_archive
    if awaited is None or status.phase is Phase.PENDING:
        return None
    return Choice(awaited.ref.name, awaited.route, awaited.import_)


def last_choice(status: EnvelopeEventStatus) -> Choice | None:
    """Return the Archive that an event came to since it started, by its status alone; None: to none, or it is
    not known."""
    if (awaited := awaited_choice(status)) is not None:
        return awaited
    is_earlier = has_places(status) and not keeps_choice(status)
    return None if is_earlier else stored_choice(status)


def import_choice(event: EnvelopeEvent) -> Choice | None:
    """Return the Archive that the Import of an event names; None: it names none, or there is no Import."""
    labels = event.metadata.labels
    archive = labels.get(IMPORT_ARCHIVE_LABEL)
    return Choice(archive, None, labels.get(IMPORT_LABEL, "")) if archive else None


def is_led_elsewhere(event: EnvelopeEvent, choice: Choice) -> bool:
    """Whether an event was led to another Archive than the one of its Import, or one of the Organization: by
    a manifest of its envelope there, or by another event."""
    own = import_choice(event)
    return choice.archive != own.archive if own is not None else choice.import_ is not None


def leads_to(event: EnvelopeEvent, archive: str, created: datetime | None) -> bool:
    """
    Whether the envelope of an event belongs in this Archive, which was ``created`` then: the status has a
    manifest, or nothing led the event there.

    The hash of a file shows nothing: it can be from the Archive in which the event had files before. Nor does
    an event show anything about a later Archive of the same name.
    """
    choice = stored_choice(event.status)
    if choice is None or choice.archive != archive:
        return False
    if not KeptChoice(choice, event.name, _files_since(event)).may_be_in(created):
        return False
    return has_manifest(event.status) or not is_led_elsewhere(event, choice)


def known_choice(event: EnvelopeEvent, spec: RoutedSpec) -> Choice | None:
    """
    Return the Archive of an event as far as it is known without a question to eSAW; None: routes or an Import
    decide it later, or there is no Archive.

    The stored choice counts. While no file has a place there, it is void once the routes do not have it any
    more: a person corrected them. That of an event that started again is void too, unless it has a manifest.
    """
    status, stored = event.status, stored_choice(event.status)
    if stored is not None and (keeps_choice(status) or (_is_unused(status) and _leads_to(stored, spec))):
        return stored
    if spec.routes or spec.archive_ref is None or import_choice(event) is not None:
        return None
    return Choice(spec.archive_ref.name, None)


def needed_choice(event: EnvelopeEvent, spec: RoutedSpec) -> Choice | None:
    """
    Return the Archive that an event waits for, or failed in, as far as it is known without a question to
    eSAW: the awaited one while the spec leads there, or another event has files there; else that of
    ``known_choice``.
    """
    status, awaited = event.status, awaited_choice(event.status)
    if awaited is None or keeps_choice(status):
        return known_choice(event, spec)
    is_followed = status.awaited_archive is not None and status.awaited_archive.event is not None
    return awaited if is_followed or _leads_to(awaited, spec) else known_choice(event, spec)


def way_elsewhere(event: EnvelopeEvent, spec: RoutedSpec) -> str | None:
    """Return what a person can do about the Archive to which an event follows another one; None: it follows
    none, or the Organization names this Archive."""
    awaited = event.status.awaited_archive
    if awaited is None or awaited.event is None or event.status.phase is Phase.PENDING:
        return None
    return way_from(awaited.ref.name, event, spec)


def way_from(archive: str, event: EnvelopeEvent, spec: RoutedSpec) -> str | None:
    """Return what lets an event go elsewhere than to this Archive, in which another one has files; None: the
    Organization names it."""
    if is_named(archive, event, spec):
        return None
    return (
        f"The Organization does not name Archive/{archive} any more. Once nothing else needs it, delete it: "
        "the next attempt then goes where the Organization says."
    )


def possible_archives(event: EnvelopeEvent, spec: RoutedSpec) -> frozenset[str]:
    """Return the names of the Archives that an event waits for, or may choose."""
    needed, of_import = needed_choice(event, spec), import_choice(event)
    copies = used_copies(event.status, spec)
    if event.status.cause == COPY_INVALID:
        # The Archive of a copy may be what a person corrects, also before the archiving.
        copies = copy_names(spec)
    if needed is not None:
        return frozenset({needed.archive, *copies})
    imported = {of_import.archive} if of_import is not None else ()
    return frozenset({*original_names(spec), *imported, *copies})


def archive_names(spec: RoutedSpec) -> tuple[str, ...]:
    """Return the names of all Archives of an Organization, those of copies last, each once."""
    return tuple(dict.fromkeys((*original_names(spec), *copy_names(spec))))


def is_named(archive: str, event: EnvelopeEvent, spec: RoutedSpec) -> bool:
    """Whether the Organization names this Archive now, or the Import of the event does."""
    of_import = import_choice(event)
    return archive in archive_names(spec) or (of_import is not None and of_import.archive == archive)


def original_names(spec: RoutedSpec) -> tuple[str, ...]:
    """Return the names of the Archives that files come to first, that of ``spec.archiveRef`` first, each
    once."""
    default = [spec.archive_ref.name] if spec.archive_ref is not None else []
    return tuple(dict.fromkeys([*default, *(each.archive_ref.name for each in spec.routes)]))


def has_places(status: EnvelopeEventStatus) -> bool:
    """Whether files of the event have places in the Archive of its status: something may be there."""
    return has_manifest(status) or any(each.location is not None for each in status.documents)


def keeps_choice(status: EnvelopeEventStatus) -> bool:
    """
    Whether the stored choice counts, also if the spec changes: there is a manifest, or the event has claimed
    places in that Archive since it started.
    """
    if has_manifest(status):
        return True
    return status.phase is not Phase.PENDING and has_places(status) and not has_earlier_places(status)


def has_earlier_places(status: EnvelopeEventStatus) -> bool:
    """
    Whether files have places that the event has not claimed since it started.

    An event that starts again has the places of its earlier attempts, and no condition about them before it
    has claimed its own.
    """
    is_collected = find_condition(status.conditions, PHASE_CONDITIONS[Phase.COLLECTING]) is not None
    return has_places(status) and not has_manifest(status) and not is_collected


def has_manifest(status: EnvelopeEventStatus) -> bool:
    """Whether the event archived its files: its Archive has a manifest."""
    return status.archive is not None and status.archive.manifest is not None


def documents_in(status: EnvelopeEventStatus, archive: str) -> tuple[FiledDocument, ...]:
    """Return the files if their places are in this Archive. Another one can have equal places: those of a
    bucket do not name its server."""
    return status.documents if status.archive is None or status.archive.ref.name == archive else ()


def without_old_choice(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """
    Return the status with which the first attempt of an event begins, without the choice of an earlier end.

    The choice stays, and is void, where files have places without a manifest: it says in which Archive.
    """
    if status.phase is not Phase.PENDING:
        return status
    archive = status.archive if has_places(status) else None
    return replace(status, archive=archive, awaited_archive=None)


def _is_unused(status: EnvelopeEventStatus) -> bool:
    """Whether no file has a place, and the choice was made since the event started."""
    return status.phase is not Phase.PENDING and not has_places(status)


def kept_choices(events: Sequence[EnvelopeEvent]) -> tuple[KeptChoice, ...]:
    """
    Return the Archives in which the events of an envelope have files; a further one goes to the first.

    First those of events with a manifest. An event that ended without one will choose again itself.
    """
    archived = [each for each in events if has_manifest(each.status)]
    others = [each for each in events if not has_manifest(each.status) and not each.status.phase.is_final]
    running = [each for each in others if keeps_choice(each.status)]
    found = ((stored_choice(each.status), each) for each in (*archived, *running))
    return tuple(
        KeptChoice(choice, each.name, _files_since(each)) for choice, each in found if choice is not None
    )


def own_kept_choice(event: EnvelopeEvent) -> KeptChoice | None:
    """Return the Archive in which the event itself has files; None: in none, or it will choose again."""
    choice = stored_choice(event.status)
    if choice is None or not keeps_choice(event.status):
        return None
    return KeptChoice(choice, event.name, _files_since(event))


def _files_since(event: EnvelopeEvent) -> datetime | None:
    collected = find_condition(event.status.conditions, PHASE_CONDITIONS[Phase.COLLECTING])
    if collected is not None and collected.status == "True":
        return collected.last_transition_time
    # The condition that is not True any more has the time of that, or is gone. An attempt begins before it
    # claims the places; one of Archiving may begin after the Archive was replaced. After a restore, the event
    # is younger than its attempts.
    created = event.metadata.creation_timestamp
    listed = (
        each.start_time
        for each in reversed(event.status.attempt_history)
        if each.phase is Phase.COLLECTING and each.outcome is AttemptOutcome.DONE
    )
    return max((each for each in (created, next(listed, None)) if each is not None), default=None)


def copy_names(spec: CopiedSpec) -> tuple[str, ...]:
    """Return the names of the Archives of all copies."""
    return tuple(each.archive_ref.name for each in spec.copies)


def required_copy_names(copies: Iterable[CopySpec]) -> tuple[str, ...]:
    """Return the names of the Archives of the required copies."""
    return tuple(each.archive_ref.name for each in copies if each.required)


def turn_of_copy(status: EnvelopeEventStatus, spec: CopiedSpec, archive: str) -> tuple[bool, bool, float]:
    """Return what decides when a run makes a copy; the lower one is made first. It is what the event waits
    for: required, and due first."""
    planned = stored_copy(status, archive).next_attempt_time
    is_required = archive in required_copy_names(spec.copies)
    return not is_required, planned is not None, planned.timestamp() if planned is not None else 0.0


def copies_in_turn(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[str, ...]:
    """Return the Archives of the copies without a stored time of their verification, in the order in which a
    run makes them."""
    return tuple(sorted(unverified_copies(status, spec), key=partial(turn_of_copy, status, spec)))


def stored_copy(status: EnvelopeEventStatus, archive: str) -> EventCopy:
    """Return what a status says about the copy in an Archive; an empty entry if it says nothing."""
    found = (each for each in status.copies if each.ref.name == archive)
    return next(found, EventCopy(ref=LocalObjectReference(name=archive)))


def wanted_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[EventCopy, ...]:
    """
    Return the entries of the copies that the spec names, and of former ones as many as a status has room for.

    A former one says where its files are, so that they may be replaced once the copy is wanted again. It
    proves nothing then: its files may be removed meanwhile.
    """
    names = copy_names(spec)
    wanted = tuple(each for each in status.copies if each.ref.name in names)
    return (*former_copies(status, spec), *wanted)


def former_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[EventCopy, ...]:
    """Return the entries of copies that the spec does not name any more, the last ones for which there is
    room."""
    names = copy_names(spec)
    former = [
        EventCopy(ref=each.ref, manifest=each.manifest)
        for each in status.copies
        if each.ref.name not in names and each.manifest is not None
    ]
    room = MAX_COPIES - len(names)
    return tuple(former[-room:]) if room > 0 else ()


def with_copy(copies: Sequence[EventCopy], copy: EventCopy) -> tuple[EventCopy, ...]:
    """Return the entries with this one in the place of that of the same Archive, or at their end."""
    if all(each.ref != copy.ref for each in copies):
        return (*copies, copy)
    return tuple(copy if each.ref == copy.ref else each for each in copies)


def failed_copy(copy: EventCopy, reason: str, message: str, *, now: datetime) -> EventCopy:
    """Return the entry of a copy after an attempt that failed. The state machine plans the next one."""
    return replace(
        copy,
        verified_time=None,
        documents=None,
        reason=reason,
        message=message,
        attempts=copy.attempts + 1,
        last_attempt_time=now,
        next_attempt_time=None,
    )


def is_copying_done(status: EnvelopeEventStatus) -> bool:
    """
    Whether nothing is left for the phase Copying: there are no copies, or each required one was proved.

    It says which phase is next, and is no proof: the delete asks ``proof`` about each copy.
    """
    copied = find_condition(status.conditions, PHASE_CONDITIONS[Phase.COPYING])
    return copied is None or copied.status == "True" or copied.reason in MISSING_COPY_REASONS


def is_copying_next(status: EnvelopeEventStatus) -> bool:
    """Whether the next run of an archived event begins with its copies."""
    # First what is rare: each event of the queue is asked.
    if is_copying_done(status):
        return False
    before = (Phase.VALIDATING, Phase.COLLECTING, Phase.ARCHIVING)
    return all(is_condition_true(status.conditions, PHASE_CONDITIONS[each]) for each in before)


def unverified_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[str, ...]:
    """Return the Archives of the copies without a stored time of their verification; ``proof`` decides what
    is proved."""
    return _unverified(status, copy_names(spec))


def listed_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[EventCopy, ...]:
    """Return what a status says about each copy, with an empty entry for a copy that it does not name."""
    stored = {each.ref.name for each in status.copies}
    others = (stored_copy(status, each) for each in copy_names(spec) if each not in stored)
    return (*shown_copies(status, spec), *others)


def shown_copies(status: EnvelopeEventStatus, spec: CopiedSpec | None) -> tuple[EventCopy, ...]:
    """Return the entries without those of former copies, which only keep a place (``former_copies``). Without
    a spec, an entry with only a place may be such a one."""
    names = copy_names(spec) if spec is not None else ()
    return tuple(
        each
        for each in status.copies
        if each.ref.name in names or each.verified_time is not None or each.reason is not None
    )


def next_copy_time(status: EnvelopeEventStatus, spec: CopiedSpec) -> datetime | None:
    """Return when the next copy that is not verified is tried again; None: no time is planned."""
    entries = (stored_copy(status, each) for each in unverified_copies(status, spec))
    return min(
        (each.next_attempt_time for each in entries if each.next_attempt_time is not None), default=None
    )


def used_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[str, ...]:
    """Return the Archives of the required copies of an archived event, which its delete needs."""
    archived = find_condition(status.conditions, PHASE_CONDITIONS[Phase.ARCHIVING])
    if archived is None or archived.status != "True":
        return ()
    return required_copy_names(spec.copies)


def open_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[str, ...]:
    """
    Return the Archives of the required copies that an event in the phase Copying waits for.

    By the stored times only: the event in memory may lack its files.
    """
    if is_copying_done(status):
        return ()
    return _unverified(status, used_copies(status, spec))


def _unverified(status: EnvelopeEventStatus, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in names if stored_copy(status, each).verified_time is None)


def awaited_archive(event: EnvelopeEvent, spec: RoutedSpec) -> str | None:
    """Return the Archive that an event waits for, or failed for: that of a copy which has the same reason;
    else its own. None: it is not known."""
    copies, choice, cause = open_copies(event.status, spec), needed_choice(event, spec), event.status.cause
    # A run may end before its copies, because of the first archive.
    named = [each for each in copies if not cause or stored_copy(event.status, each).reason == cause]
    if named:
        return named[0]
    return choice.archive if choice is not None else None


def _leads_to(choice: Choice, spec: RoutedSpec) -> bool:
    """Whether the spec still has this choice, with any conditions. That of an Import never changes."""
    if choice.import_ is not None:
        return True
    if choice.route is None:
        return spec.archive_ref is not None and spec.archive_ref.name == choice.archive
    return any((each.archive_ref.name, each.name) == (choice.archive, choice.route) for each in spec.routes)


def _tag_text(tag: RouteTag) -> str:
    return f"matches `{tag.pattern}`" if tag.pattern is not None else f"is {_either(tag.values)}"


def _either(values: Sequence[str]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last
