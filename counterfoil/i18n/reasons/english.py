"""What each reason means and what to do about it, in English: the original that the other languages follow."""

from types import MappingProxyType

WORDS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "Unknown": (
            "Counterfoil says a reason that this version does not know.",
            "Read the message beside it; it says what is the matter.",
        ),
        "ArchivedAndDeleted": (
            "Everything is in the archive and was proved; the envelope was deleted in eSignAnyWhere.",
            "",
        ),
        "ArchivedAndKept": (
            "Everything is in the archive and was proved; the envelope stays in eSignAnyWhere, as configured.",
            "",
        ),
        "Recorded": ("The callback was noted down; nothing else is to be done for this action.", ""),
        "UnexpectedStatus": (
            "The envelope ended in a status that this Organization does not archive.",
            "To archive rejected, canceled or expired envelopes too, add them to spec.statuses.",
        ),
        "EnvelopeRestarted": (
            "An expired envelope was archived and then came to life again; it stays in eSignAnyWhere.",
            "Its next callback goes on from here.",
        ),
        "ActionNotConfigured": (
            "The Organization does not list this action any more.",
            "List it in spec.actions if it is to be archived.",
        ),
        "SkippedByRequest": (
            "A person gave the event up on purpose; the envelope stays in eSignAnyWhere.",
            "",
        ),
        "ArchivedAlready": (
            "Another event of the envelope archived it, and it was deleted in eSignAnyWhere since.",
            "",
        ),
        "EnvelopeDeleted": (
            "The envelope was deleted in eSignAnyWhere before it was archived.",
            "What was not archived can't be fetched any more. See who deletes envelopes there: a person, or a retention period that is too short.",
        ),
        "DeadlineExceeded": (
            "No attempt succeeded before the deadline (spec.retry.deadline).",
            "status.lastError says what was wrong. Mend it and retry.",
        ),
        "StatusAccepted": ("The envelope has a status that is archived.", ""),
        "FilesListed": (
            "The files of the envelope are known and their names in the archive are claimed.",
            "",
        ),
        "FilesVerified": ("Every file is in the archive and was read back.", ""),
        "SignaturesIntact": ("All signatures in the documents are intact.", ""),
        "NoSignatures": ("A document has no signature.", ""),
        "SignatureBroken": (
            "A signature in a document is broken or, where the Archive requires one, missing.",
            "The message names the file and what is wrong. Look at it in a PDF reader and ask the sender. To file it as it is, "
            "set spec.signatures of the Archive to Report.",
        ),
        "SignerUntrusted": (
            "The certificate of a signer leads to none of the Archive's trust anchors, or not at the time of signing.",
            "The message names the file, the signer and why. If the signer is to be trusted, put the certificate of the issuing "
            "authority into the Secret of spec.trustAnchorsSecretRef: the event goes on by itself. To file it nevertheless, set "
            "spec.signatures of the Archive to Report.",
        ),
        "SignaturesUnchecked": (
            "The signatures in a document were not checked, most likely because it is larger than 64 MiB.",
            "The message names the file. Check it by hand. To file it although the Archive requires signatures, set its "
            "spec.signatures to Report.",
        ),
        "InProgress": ("The event is on its way.", ""),
        "CleanupDelayed": (
            "The envelope is archived and will be deleted later, as spec.cleanup.after says.",
            "",
        ),
        "StillActive": (
            "eSignAnyWhere has not finished the envelope yet; its callbacks come a little early.",
            "If it lasts, look at the envelope in eSignAnyWhere.",
        ),
        "NoFiles": (
            "eSignAnyWhere lists no file for the envelope yet.",
            "If it lasts, look at the envelope in eSignAnyWhere.",
        ),
        "FilesChanged": ("The envelope's files changed while they were archived; they are listed anew.", ""),
        "Suspended": ("The event is held by a person.", "Set spec.suspend of the event to false."),
        "OrganizationSuspended": (
            "All events of the Organization are held by a person.",
            "Set spec.suspend of the Organization to false.",
        ),
        "SenderSuspended": (
            "All events of the sender are held by a person.",
            "Set spec.suspend of the Sender to false.",
        ),
        "RetryRequested": ("A person asked to try again.", ""),
        "RequestRefused": ("A person asked for something that can't be done, as the note says.", ""),
        "Redelivered": ("eSignAnyWhere called again, so the event begins again.", ""),
        "CauseSolved": ("What it had failed of was mended, so the event begins again.", ""),
        "ConsentRequired": (
            "The sender has not given consent yet, so there is no key to fetch the documents with.",
            "The sender opens the consent link and agrees; everything that waits goes on by itself.",
        ),
        "TokenRejected": (
            "eSignAnyWhere no longer accepts the sender's key.",
            "The sender renews the consent, or puts a new API key into the Secret; everything that waits goes on by itself.",
        ),
        "SealBroken": (
            "The sealed key of the sender can't be opened: it was changed, or belongs to another sender.",
            "The sender gives consent again.",
        ),
        "KeyMissing": (
            "The Secret with the sender's key is not there, or has no such key in it.",
            "Put the key there, or correct spec.tokenSecretRef of the Sender; without that setting the sender gives consent again.",
        ),
        "KeyUnreadable": (
            "What lies in the Secret is not an API key.",
            "Put the sender's API key into the Secret, as text without spaces.",
        ),
        "WrongUser": (
            "The key belongs to another user of eSignAnyWhere than the Sender says.",
            "Put this user's key into the Secret, or correct spec.userId.",
        ),
        "SealingKeysMissing": (
            "The controller has no sealing keys, so it can't open keys that were obtained by consent.",
            "Give the controller the sealing keys that the pages have (COUNTERFOIL_SEALING_KEYS).",
        ),
        "SealKeyUnknown": (
            "The key is sealed with a sealing key that the controller does not have.",
            "Bring that sealing key back, or let the senders concerned give consent again.",
        ),
        "KeyAccepted": ("eSignAnyWhere accepts the sender's key.", ""),
        "SenderUnknown": (
            "Nothing says who sent the envelope, so there is no key to fetch it with.",
            "Create an Envelope that names the Sender, or set spec.defaultSenderRef of the Organization. What failed is then tried again.",
        ),
        "SenderMissing": (
            "The Sender that is named does not exist.",
            "Create it, or correct the Envelope or spec.defaultSenderRef that names it.",
        ),
        "SenderOfOtherOrganization": (
            "The Sender that is named belongs to another Organization.",
            "Correct the Envelope or spec.defaultSenderRef that names it.",
        ),
        "EnvelopeNotFound": (
            "The sender's key does not show the envelope: it never existed, or somebody else sent it.",
            "Say who sent it with an Envelope, then retry. If nobody sent it, the callback was forged or mistyped: skip it.",
        ),
        "NotPermitted": (
            "eSignAnyWhere does not permit this to the sender.",
            "Give the user the permission in eSignAnyWhere (download documents, delete envelopes), then retry.",
        ),
        "EsawUnreachable": (
            "eSignAnyWhere can't be reached.",
            "If it lasts, look at eSignAnyWhere, at spec.baseURL and at the network between.",
        ),
        "EsawFailing": (
            "eSignAnyWhere answers with errors of its own.",
            "If it lasts, ask who runs eSignAnyWhere.",
        ),
        "EsawThrottling": (
            "eSignAnyWhere asks for a pause.",
            "If it lasts, set spec.limits.requestsPerSecond of the Organization.",
        ),
        "EsawAnswerUnreadable": (
            "eSignAnyWhere answers something that is not an answer of its API.",
            "See what stands between: a proxy, a login page, another version. Correct spec.baseURL if it is wrong.",
        ),
        "EsawRedirects": (
            "eSignAnyWhere redirects to another address; the key is not sent there.",
            "Put the address it redirects to into spec.baseURL, if it is the right one.",
        ),
        "EsawNotFound": (
            "eSignAnyWhere does not know what was asked for.",
            "Check that spec.baseURL is the address of eSignAnyWhere and that its API v6 is switched on.",
        ),
        "EsawRefused": (
            "eSignAnyWhere refuses what was asked.",
            "The message has its answer. Mend what it names and retry; otherwise report it.",
        ),
        "EsawAnswers": ("eSignAnyWhere answers.", ""),
        "TransferBroken": (
            "A download broke off, or had another length than announced.",
            "If it lasts, look at the network between, a proxy above all.",
        ),
        "UnsupportedApiVersion": (
            "The envelope was made by API v5, which API v6 can't read.",
            "File it by hand, then skip the event; let the application that sends use API v6.",
        ),
        "EnvelopeTooLarge": (
            "The envelope has more files, or more metadata, than can be archived as one.",
            "The message says of what it has too much. File it by hand, then skip the event; let the application that sends make smaller envelopes.",
        ),
        "ArchiveMissing": (
            "The Organization names no Archive, or one that does not exist.",
            "Create the Archive, or correct spec.archiveRef.",
        ),
        "ArchiveKeepsNothing": (
            "The archive keeps no files, and the Organization deletes envelopes.",
            "Set spec.cleanup.policy of the Organization to Keep, or let spec.archiveRef name another Archive.",
        ),
        "ArchiveNotReady": (
            "The archive can't be used.",
            "The condition Ready of the Archive says what is wrong and what to do.",
        ),
        "ArchiveUnreachable": (
            "The archive can't be reached.",
            "See whether it runs, and look at its address in the Archive and at the network between.",
        ),
        "ArchiveFailing": ("The archive answers with errors of its own.", "Ask who runs it."),
        "ArchiveOverloaded": (
            "The archive asks for a pause.",
            "If it lasts, lower spec.maxConcurrency of the Archive.",
        ),
        "ArchiveFull": ("There is no space left in the archive.", "Enlarge it, or raise its quota."),
        "ArchiveReadOnly": (
            "The archive can only be read.",
            "Mount it, or set it, so that it can be written to.",
        ),
        "ArchiveLocked": (
            "Somebody holds a lock on a place in the archive.",
            "Let them release it; the lock of a program that died is removed on the server.",
        ),
        "ArchiveChanged": (
            "Somebody else changed the archive at the same place meanwhile.",
            "If it lasts, see which other program writes there.",
        ),
        "ArchiveRootMissing": (
            "The folder that the Archive names does not exist.",
            "Create or mount it, or correct the Archive.",
        ),
        "ArchiveBucketMissing": (
            "The bucket does not exist, or the key may not see it.",
            "Create it, or correct spec.s3.bucket.",
        ),
        "ArchiveRegionWrong": ("The bucket is in another region.", "Correct spec.s3.region."),
        "ArchiveNoIdentity": (
            "The pod has no identity that the archive knows.",
            "Name a Secret in credentialsSecretRef, or give the controller's ServiceAccount a role.",
        ),
        "ArchiveCredentialsRejected": (
            "The archive does not accept the credentials.",
            "Put valid ones into the Secret that credentialsSecretRef names.",
        ),
        "ArchivePermissionDenied": (
            "The credentials may not do everything that filing needs.",
            "Allow to list, read, write and delete below the archive's root; the message names the place.",
        ),
        "ArchiveRefused": (
            "The archive refuses what was asked.",
            "The message has its answer; correct the Archive or the server.",
        ),
        "ArchiveRedirects": (
            "The archive redirects to another address; credentials are not sent there.",
            "Put the address it redirects to into the Archive, if it is the right one.",
        ),
        "ArchiveTlsFailed": (
            "The encrypted connection to the archive fails: its certificate is not trusted, or no method is common to both.",
            "Renew the certificate, or let its authority be trusted.",
        ),
        "ArchiveHostKeyUnknown": (
            "The server shows another host key than the Archive lists.",
            "See whether it is the right server; if so, put its key into spec.sftp.hostKeys.",
        ),
        "ArchiveAnswerUnreadable": (
            "What answers is not the archive that was expected.",
            "See what stands between: a proxy, a login page. Correct the address if it is wrong.",
        ),
        "ArchiveNotWebDav": ("The server does not speak WebDAV at this address.", "Correct spec.webdav.url."),
        "ArchiveNotCmis": (
            "There is no CMIS browser binding at the address that the Archive names.",
            "Correct the address; with most products it ends in /browser.",
        ),
        "ArchiveLacksFeature": (
            "The archive can't do something that the Archive asks for.",
            "The message names it; leave it out, or use another server.",
        ),
        "SettingsInvalid": (
            "The Archive, or its Secret, can't work as it is written.",
            "The message names the setting. Correct it.",
        ),
        "ClockWrong": (
            "The archive has another time than this machine.",
            "Set the clock of the one that is wrong.",
        ),
        "StoredWrong": (
            "The archive took a file and gave back another one; the envelope stays in eSignAnyWhere.",
            "See what changes files on the way: a filter, a proxy, a broken disk.",
        ),
        "NameOccupied": (
            "Somebody else's file lies where a document must go; it was not touched.",
            "Move it away, or change spec.path of the Archive, then retry.",
        ),
        "SymbolicLink": (
            "A symbolic link lies on the way into the archive; it is not followed.",
            "Replace it by a folder.",
        ),
        "PathTooLong": ("A path is longer than the archive takes.", "Shorten spec.path of the Archive."),
        "FileTooBig": ("A file is bigger than the archive takes.", "Raise the archive's limit."),
        "TagMissing": (
            "A tag that is required is not in the envelope's metadata.",
            "Correct the rule in spec.tags of the Archive, or see why the metadata lacks it.",
        ),
        "MetadataUnreadable": (
            "The envelope's metadata is neither XML nor JSON that can be read.",
            "See which application writes it, or take the rules that need it out of the Archive.",
        ),
        "Probed": ("A probe was written and read back.", ""),
        "OrganizationMissing": (
            "The Organization of the event does not exist.",
            "Create it again, or delete the event.",
        ),
        "CallbackTokenMissing": (
            "The Secret with the callback token is not there, or has no such key in it.",
            "Put a token there, or correct spec.callback.tokenSecretRef.",
        ),
        "CallbackTokenRefused": (
            "The callback token is too weak, or has characters that a URL can't carry.",
            "Put another token into the Secret and into the callback URL.",
        ),
        "BasicAuthMissing": (
            "The Secret for basic authentication is not there, or incomplete.",
            "Put username and password there, or take spec.callback.basicAuthSecretRef out.",
        ),
        "BasicAuthRefused": (
            "User name or password for basic authentication can't be used.",
            "Put others into the Secret, or take spec.callback.basicAuthSecretRef out.",
        ),
        "FieldPatternInvalid": (
            "A pattern in the form before sending can't be used, so any value is taken there.",
            "Correct the pattern in spec.beforeSend.fields; the message says what is wrong with it.",
        ),
        "Ready": ("Callbacks are taken and envelopes are archived.", ""),
        "MailServerAnswers": ("The mail server answers and accepts the login.", ""),
        "MailServerUnreachable": (
            "The mail server can't be reached; mails wait and are sent once it is back.",
            "See whether it runs, and check `host` and `port` in the Secret that smtpSecretRef names.",
        ),
        "MailServerNotTrusted": (
            "The mail server's certificate is not trusted; no mail is sent.",
            "Renew the certificate, or put its authority into `ca.crt` of the Secret that smtpSecretRef names.",
        ),
        "MailServerLacksTls": (
            "The mail server offers no encryption; no mail is sent.",
            "Switch STARTTLS on there. Only for a server on the same machine: set `tls` in the Secret to `none`.",
        ),
        "MailLoginRefused": (
            "The mail server does not accept the login.",
            "Put a valid `username` and `password` into the Secret that smtpSecretRef names.",
        ),
        "MailRefused": (
            "The mail server does not take a mail.",
            "The message has its answer. Check spec.notifications.from, the address of the recipient and the server's rules.",
        ),
        "MailSettingsInvalid": (
            "Mails can't be sent as it is configured.",
            "The message names what is wrong in spec.notifications or in the Secret that smtpSecretRef names.",
        ),
        "NotProven": (
            "It is not proved that everything is in the archive, so the envelope was not deleted.",
            "Retry; if it comes again, report it.",
        ),
        "StatusRefused": (
            "The API server does not take the event's new status.",
            "See that the CustomResourceDefinitions are of this version, then retry.",
        ),
        "ApiServerTrouble": (
            "The Kubernetes API server did not do what was asked.",
            "If it lasts, see whether the controller's Role is complete.",
        ),
        "InternalError": (
            "Counterfoil ran into an error of its own.",
            "The controller's log has the details; report it.",
        ),
    }
)
