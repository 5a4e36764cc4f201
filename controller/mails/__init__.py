"""
Mails to people: to a sender whose key no longer works, and to the administrators about failures.

``problem_tracking`` keeps each problem once, ``policy`` selects the mails that are due; both are pure.
``render`` composes a mail, ``smtp`` sends it, ``delivery`` ensures that it is sent once. ``notifier`` runs
all of this periodically for the Organizations of this process.

Each person receives one mail per problem (rule 6). Notifications run beside archiving and never delay it; a
mail that cannot be sent waits. See docs/notifications.md, and docs/decisions/0007 for the reasons.
"""
