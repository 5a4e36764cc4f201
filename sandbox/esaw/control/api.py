"""
The control surface: operations on eSAW for tests and demos that no client of eSAW has.

`Control` is the surface in the server's own process. http_endpoint serves its methods, and `StandInControl`
in client makes its methods from their signatures. Methods raise ValueError for an impossible call, in both
classes.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Unpack

from sandbox.esaw.core import documents
from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.callbacks import CallbackAttempt, CallbackClient, CallbackLogin
from sandbox.esaw.core.consents import ConsentStore
from sandbox.esaw.core.content import sha256
from sandbox.esaw.core.faults import FaultInjector, FaultOptions, InjectedFault
from sandbox.esaw.core.lifecycle import BackgroundTasks, Lifecycle
from sandbox.esaw.core.model import (
    EASY_LOGIN,
    CallbackUrls,
    DraftListing,
    EnvelopeOptions,
    EnvelopeOrder,
    EnvelopeStatus,
    FileListing,
    OAuthApp,
    Recipient,
    UploadedFile,
    User,
)
from sandbox.esaw.core.recorder import DeleteCall, RecordedRequest, Recorder, SendCall
from sandbox.esaw.core.store import EsawStore

RESTART_LIFETIME: Final = timedelta(days=28)


class Control:
    """Direct access to the store, the faults and the recorder."""

    def __init__(self, store: EsawStore, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour
        self._faults = FaultInjector()
        self._recorder = Recorder()
        self._background = BackgroundTasks()
        self._callback_client = CallbackClient(now=store.now, behaviour=lambda: self._behaviour)
        self._consents = ConsentStore(store, lambda: self._behaviour)
        self._lifecycle = Lifecycle(store, self._callback_client, self._background)

    # Users

    def organization_id(self) -> str:
        """The id of the one organization there is."""
        return self._store.organization_id

    def add_user(
        self,
        *,
        email: str,
        given_name: str,
        surname: str,
        team: str = "",
        may_see_history: bool = True,
        password: str = EASY_LOGIN,
    ) -> User:
        """A new active user with one token, who signs in with this password."""
        return self._store.add_user(
            email=email,
            given_name=given_name,
            surname=surname,
            team=team,
            may_see_history=may_see_history,
            password=password,
        )

    def new_token(self, user: User) -> str:
        """One more token for this user; those there are stay."""
        return self._store.new_token(user.user_id)

    def revoke(self, user: User, token: str | None = None) -> None:
        """Disable one token of this user, or all: 401 from now on."""
        self._store.revoke(user.user_id, token)

    def revocations(self, user: User) -> int:
        """Number of tokens of this user that were disabled."""
        return self._store.revocations[user.user_id]

    def set_active(self, user: User, *, active: bool) -> None:
        """Shut a user out (401 with each token), or let them in again."""
        self._store.set_active(user.user_id, active=active)

    # OAuth applications

    def register_app(self, *, name: str, redirect_uris: Sequence[str]) -> OAuthApp:
        """A new OAuth application. Raises ValueError for a redirect URI that is not absolute or has a
        fragment."""
        return self._consents.register(name, redirect_uris)

    def withdraw_consent(self, user: User, client_id: str) -> None:
        """The user no longer allows the application: its token is disabled, and it asks again. Raises
        ValueError if they never did."""
        self._consents.withdraw(self._store.known_user(user.user_id), self._consents.known_app(client_id))

    # Drafts

    def set_before_send_redirect(self, url: str | None) -> None:
        """The organization's "Default redirect url before sending a draft", for drafts made from now on
        without their own."""
        self._store.before_send_url = url

    def add_draft(
        self,
        *,
        owner: User,
        name: str = "Contract",
        recipients: Sequence[Recipient] = (Recipient(),),
        metadata: str | None = None,
        bulk_recipients: Sequence[Recipient] = (),
    ) -> str:
        """A draft of one sample page, as made on the web pages; its id. With `bulk_recipients` it is a bulk:
        each of them gets an envelope and signs it before the other recipients."""
        user = self._store.known_user(owner.user_id)
        upload = UploadedFile(
            self._store.new_id(), user, "sample.pdf", documents.plain_pdf("Sample", 1), self._store.now()
        )
        draft = self._store.add_draft(
            user,
            name=name,
            uploads=[upload],
            recipients=recipients,
            metadata=metadata,
            bulk_recipients=bulk_recipients,
        )
        return draft.id

    def drafts(self, user: User) -> list[DraftListing]:
        """The drafts of this user that have not been sent, oldest first."""
        return [
            DraftListing(
                draft_id=each.id, name=each.name, metadata=each.metadata, before_send_url=each.before_send_url
            )
            for each in self._store.drafts_of(user)
        ]

    def draft_of(self, envelope_id: str) -> str | None:
        """The draft that this envelope was sent from, also of a deleted one; None if there was none."""
        return self._store.known_envelope(envelope_id).draft_id

    def envelope_of(self, draft_id: str) -> str | None:
        """The envelope that this draft was sent as, also a deleted one; None if it was not sent. The first
        one of a bulk."""
        return next(iter(self.envelopes_of(draft_id)), None)

    def envelopes_of(self, draft_id: str) -> list[str]:
        """All envelopes that this draft was sent as, also deleted ones: several for a bulk."""
        return [each.id for each in self._store.envelopes.values() if each.draft_id == draft_id]

    def sends(self, draft_id: str) -> list[SendCall]:
        """Each call of draft/send for this draft; the SEND button of the web pages is none."""
        return self._recorder.send_calls(draft_id)

    # Envelopes

    def add_envelope(self, *, sender: User, **options: Unpack[EnvelopeOptions]) -> str:
        """An envelope as sent from the web pages, at once in its state, with nobody called; its id. See
        EnvelopeOrder."""
        return self._store.add_envelope(self._store.known_user(sender.user_id), EnvelopeOrder(**options)).id

    def set_default_callbacks(self, *, completed: str | None, status_change: str | None) -> None:
        """The organization's "Default callback URLs", for envelopes that are added from now on without their
        own."""
        self._store.default_callbacks = CallbackUrls(envelope=completed, status=status_change)

    def set_callback_logins(self, logins: Sequence[CallbackLogin]) -> None:
        """The organization's "Add authentication" entries, first match first."""
        self._callback_client.logins = list(logins)

    def set_behaviour(self, behaviour: Behaviour) -> None:
        """Turn the switches."""
        self._behaviour = behaviour

    async def open_workstep(self, envelope_id: str) -> None:
        """The next signer opens the documents."""
        await self._lifecycle.open_workstep(self._store.existing_envelope(envelope_id))

    async def finish_workstep(self, envelope_id: str) -> None:
        """The next signer signs; the envelope stays Active, also after the last one, until `complete`."""
        await self._lifecycle.finish_workstep(self._store.existing_envelope(envelope_id))

    async def complete(self, envelope_id: str) -> None:
        """All sign; the envelope is Completed as soon as its callbacks allow."""
        await self._lifecycle.complete(self._store.existing_envelope(envelope_id))

    async def stall(self, envelope_id: str, remaining_attempts: int = 0) -> None:
        """All sign, but a step of eSAW itself is in an error state: the envelope stays Active until
        `trigger_again`."""
        await self._lifecycle.stall(self._store.existing_envelope(envelope_id), remaining_attempts)

    async def reject(self, envelope_id: str, reason: str = "Not as agreed.") -> None:
        """The next signer rejects; the envelope is Rejected as soon as its callbacks allow."""
        await self._lifecycle.reject(self._store.existing_envelope(envelope_id), reason)

    async def expire(self, envelope_id: str) -> None:
        """The envelope expires."""
        await self._lifecycle.expire(self._store.existing_envelope(envelope_id))

    async def cancel(self, envelope_id: str) -> None:
        """The sender cancels the envelope on the web page. Raises ValueError unless it is Active."""
        envelope = self._store.existing_envelope(envelope_id)
        if envelope.status is not EnvelopeStatus.ACTIVE:
            raise ValueError(f"The envelope {envelope_id} is not Active.")
        self._lifecycle.cancel(envelope)

    async def restart(self, envelope_id: str) -> None:
        """Continue an Expired envelope for 28 days. Raises ValueError for any other."""
        envelope = self._store.existing_envelope(envelope_id)
        if envelope.status is not EnvelopeStatus.EXPIRED:
            raise ValueError(f"The envelope {envelope_id} is not Expired.")
        self._lifecycle.restart(envelope, self._store.now() + RESTART_LIFETIME)

    async def delete(self, envelope_id: str) -> None:
        """The envelope is deleted on the web page or by the retention period: no request is recorded."""
        self._store.delete(self._store.existing_envelope(envelope_id))

    # Callbacks

    async def announce(self, envelope_id: str, action: str) -> None:
        """A status callback with any action, as a future version may send."""
        await self._lifecycle.announce(self._store.known_envelope(envelope_id), action)

    async def repeat_callback(self, envelope_id: str, times: int = 1) -> None:
        """Call `CallbackUrl` again, this number of times at once, also for an envelope that was deleted."""
        self._lifecycle.repeat_envelope_callback(self._store.known_envelope(envelope_id), times)

    async def trigger_again(self, envelope_id: str) -> None:
        """Retry the callback that was given up (the button of the errors view)."""
        self._lifecycle.trigger_again(self._store.existing_envelope(envelope_id))

    async def callbacks_settled(self) -> None:
        """Wait until every callback was accepted or given up."""
        await self._background.wait_until_idle()

    def callbacks(self, envelope_id: str | None = None) -> list[CallbackAttempt]:
        """All attempts of callbacks, in order."""
        return [
            each for each in self._callback_client.attempts_made if envelope_id in {None, each.envelope_id}
        ]

    # Faults

    def fault(self, operation: str, **options: Unpack[FaultOptions]) -> None:
        """Order a fault. See faults.Fault; of several that fit a request, the oldest meets it."""
        if user_id := options.get("token_of"):
            self._store.known_user(user_id)
        self._faults.add(InjectedFault(operation=operation, **options))

    def clear_faults(self, operation: str | None = None) -> None:
        """Withdraw all faults, or those ordered for one operation."""
        self._faults.clear(operation)

    # What happened, what is there

    def requests(self, operation: str | None = None, id: str | None = None) -> list[RecordedRequest]:  # noqa: A002
        """The recorded requests of this operation, about this envelope, draft or file; in order of
        arrival."""
        return self._recorder.requests(operation, id)

    def delete_calls(self, envelope_id: str) -> list[DeleteCall]:
        """Each call of delete for this envelope, and which of its files had been sent whole by then."""
        files = self._store.known_envelope(envelope_id).files()
        return self._recorder.delete_calls(envelope_id, [file.id for file in files])

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        self._recorder.clear()

    def exists(self, envelope_id: str) -> bool:
        """Whether the envelope is there and not deleted."""
        envelope = self._store.envelopes.get(envelope_id)
        return envelope is not None and envelope.deleted_at is None

    def status(self, envelope_id: str) -> EnvelopeStatus:
        """The state of an envelope that is not deleted."""
        return self._store.existing_envelope(envelope_id).status

    def files(self, envelope_id: str) -> list[FileListing]:
        """All files of an envelope, also of a deleted one."""
        files = self._store.known_envelope(envelope_id).files()
        return [FileListing(file.id, file.kind, file.name, file.content.size) for file in files]

    def expected_sha256(self, file_id: str) -> str:
        """The SHA-256 of what a whole download of this file gives, also after its envelope was deleted."""
        return sha256(self._store.known_file(file_id).content)

    def authority_certificate(self) -> str:
        """The certificate that the documents' signatures lead to, as PEM."""
        return documents.authority_certificate()
