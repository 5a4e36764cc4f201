"""The texts of mails in English. ``{placeholders}`` are filled in; a key that ends in ``.1`` is for just one."""

from types import MappingProxyType

TEXTS: MappingProxyType[str, str] = MappingProxyType(
    {
        "hello": "Hello,",
        "hello.name": "Hello {name},",
        "what": "What happened",
        "do": "What to do",
        "message": "The message says",
        "examples": "Examples",
        "senders": "Senders",
        "commands": "Commands",
        "console": "Open the console",
        "footer": "Sent by Counterfoil for the organization {organization}. You get one mail per problem, not one per envelope.",
        # To a sender
        "consent.subject": "Please allow us to file your signed documents again",
        "consent.first": "Please allow us to file your signed documents",
        "consent.died": "eSignAnyWhere no longer accepts the key with which we file your signed documents. It was revoked, or it has expired.",
        "consent.required": "To file your signed documents, we need your consent once: with it we get a key to fetch them from eSignAnyWhere.",
        "consent.waiting": "{count} of your envelopes wait for it. Nothing is lost.",
        "consent.waiting.1": "One of your envelopes waits for it. Nothing is lost.",
        "consent.link": "Open the page below, log in to eSignAnyWhere as yourself and agree. Everything that waits is then filed by itself; there is nothing else to do.",
        "consent.button": "Give consent",
        "consent.nolink": "The next time that you send an envelope in eSignAnyWhere, you are asked for consent. Everything that waits is then filed by itself.",
        "consent.brought": "Please create a new API key in eSignAnyWhere and give it to your administrator on a safe way (never by mail): it belongs into the Secret {secret}, under {key}. Everything that waits is then filed by itself.",
        # To the administrators
        "escalation.subject": "{count} senders have not given their consent yet",
        "escalation.subject.1": "A sender has not given consent yet",
        "escalation.text": "These senders were asked for a new consent and have not reacted, or can't be asked by mail. Their envelopes are not filed until they do. Please remind them; the link works for the sender concerned only.",
        "escalation.sender": "{name} ({waiting} waiting)",
        "escalation.more": "and {count} more",
        "failed.subject": "{count} events failed: {reason}",
        "failed.subject.1": "An event failed: {reason}",
        "failed.text": "{count} callbacks of eSignAnyWhere could not be processed, all for the same reason. Their envelopes stay in eSignAnyWhere. More of the same kind raise the count; you get no further mail about them.",
        "failed.text.1": "A callback of eSignAnyWhere could not be processed. Its envelope stays in eSignAnyWhere. More of the same kind raise the count; you get no further mail about them.",
        "archive.subject": "Archive {archive} can't be used: {reason}",
        "archive.text": "Envelopes wait because the archive {archive} can't be used. Nothing is lost; they are filed by themselves as soon as it works.",
        "key.subject": "Keys of {count} senders can't be used: {reason}",
        "key.subject.1": "The key of a sender can't be used: {reason}",
        "key.text": "Envelopes are not filed because the keys of their senders can't be used. The senders can do nothing about it. Everything that waits goes on by itself once it is mended.",
        "digest.subject": "{count} problems are still open",
        "digest.subject.1": "A problem is still open",
        "digest.text": "You were written to about these problems, and they are not solved yet. Nothing is lost meanwhile. Until they are, you get this once a day.",
        "digest.items": "Still open",
        "digest.item": "{title} (told on {date})",
        "solved.subject": "Solved: {subject}",
        "solved.text": "This problem, which you were written to about on {date}, is solved. There is nothing to do.",
    }
)
