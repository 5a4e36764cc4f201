"""
Mails to people: to a sender whose key died, and to the administrators about what failed or does not work.

``ledger`` keeps each problem once, ``asking`` tells which senders are to be asked, ``due`` what is to be sent now; they
are pure. ``letters`` finds the words, ``mail`` makes the message, ``postman`` brings it to the mail server, and
``notifier`` does all that from time to time, for the Organizations that are at home in this process.

A person hears once (rule 6). Nothing of this is ever in the way of filing: it runs beside it, and what can't be sent
waits. docs/notifications.md tells people of it, docs/decisions/0007 why it is as it is.
"""
