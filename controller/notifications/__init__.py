"""
Mails to people: to a sender whose key no longer works, and to the administrators about failures.

``problem_tracking`` keeps each problem once. ``consent_requests`` selects the senders who must give a new
key, ``policy`` the mails that are due. These three are pure. ``render`` composes the content of a mail,
``mime`` the message, and ``smtp`` sends it. ``notifier`` runs all of this periodically for the Organizations
of this process.

Each person receives one mail per problem (rule 6). Notifications run beside archiving and never delay it; a
mail that cannot be sent waits. See docs/notifications.md, and docs/decisions/0007 for the reasons.
"""
