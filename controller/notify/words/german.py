"""The texts of mails in German."""

from types import MappingProxyType

WORDS: MappingProxyType[str, str] = MappingProxyType(
    {
        "hello": "Guten Tag,",
        "hello.name": "Guten Tag {name},",
        "what": "Was geschehen ist",
        "do": "Was zu tun ist",
        "message": "Die Meldung lautet",
        "examples": "Beispiele",
        "senders": "Absender",
        "commands": "Befehle",
        "console": "Konsole öffnen",
        "footer": "Gesendet von Counterfoil für die Organisation {organization}. Sie erhalten eine Mail je Problem, nicht eine je Umschlag.",
        "consent.subject": "Bitte erlauben Sie uns wieder, Ihre unterschriebenen Dokumente abzulegen",
        "consent.first": "Bitte erlauben Sie uns, Ihre unterschriebenen Dokumente abzulegen",
        "consent.died": "eSignAnyWhere nimmt den Schlüssel nicht mehr an, mit dem wir Ihre unterschriebenen Dokumente ablegen. Er wurde widerrufen oder ist abgelaufen.",
        "consent.required": "Um Ihre unterschriebenen Dokumente abzulegen, brauchen wir einmal Ihre Zustimmung: Mit ihr erhalten wir einen Schlüssel, um sie aus eSignAnyWhere abzuholen.",
        "consent.waiting": "{count} Ihrer Umschläge warten darauf. Es geht nichts verloren.",
        "consent.waiting.1": "Einer Ihrer Umschläge wartet darauf. Es geht nichts verloren.",
        "consent.link": "Öffnen Sie die Seite unten, melden Sie sich bei eSignAnyWhere an und stimmen Sie zu. Alles Wartende wird dann von selbst abgelegt; mehr ist nicht zu tun.",
        "consent.button": "Zustimmen",
        "consent.nolink": "Wenn Sie das nächste Mal in eSignAnyWhere einen Umschlag senden, werden Sie um Ihre Zustimmung gebeten. Alles Wartende wird dann von selbst abgelegt.",
        "consent.brought": "Bitte erstellen Sie in eSignAnyWhere einen neuen API-Schlüssel und geben Sie ihn auf sicherem Weg (nie per Mail) Ihrem Administrator: Er gehört in das Secret {secret}, unter {key}. Alles Wartende wird dann von selbst abgelegt.",
        "escalation.subject": "{count} Absender haben noch nicht zugestimmt",
        "escalation.subject.1": "Ein Absender hat noch nicht zugestimmt",
        "escalation.text": "Diese Absender wurden um eine neue Zustimmung gebeten und haben nicht reagiert, oder sind per Mail nicht erreichbar. Bis dahin werden ihre Umschläge nicht abgelegt. Bitte erinnern Sie sie; der Link gilt nur für den jeweiligen Absender.",
        "escalation.sender": "{name} ({waiting} warten)",
        "escalation.more": "und {count} weitere",
        "failed.subject": "{count} Vorgänge sind gescheitert: {reason}",
        "failed.subject.1": "Ein Vorgang ist gescheitert: {reason}",
        "failed.text": "{count} Aufrufe von eSignAnyWhere konnten nicht verarbeitet werden, alle aus demselben Grund. Ihre Umschläge bleiben in eSignAnyWhere. Weitere derselben Art erhöhen nur die Zahl; Sie erhalten darüber keine weitere Mail.",
        "failed.text.1": "Ein Aufruf von eSignAnyWhere konnte nicht verarbeitet werden. Sein Umschlag bleibt in eSignAnyWhere. Weitere derselben Art erhöhen nur die Zahl; Sie erhalten darüber keine weitere Mail.",
        "archive.subject": "Archiv {archive} ist nicht benutzbar: {reason}",
        "archive.text": "Umschläge warten, weil das Archiv {archive} nicht benutzbar ist. Es geht nichts verloren; sie werden von selbst abgelegt, sobald es wieder geht.",
        "key.subject": "Schlüssel von {count} Absendern sind nicht benutzbar: {reason}",
        "key.subject.1": "Der Schlüssel eines Absenders ist nicht benutzbar: {reason}",
        "key.text": "Umschläge werden nicht abgelegt, weil die Schlüssel ihrer Absender nicht benutzbar sind. Die Absender können nichts daran ändern. Alles Wartende geht von selbst weiter, sobald es behoben ist.",
        "solved.subject": "Gelöst: {subject}",
        "solved.text": "Dieses Problem, über das wir Ihnen am {date} geschrieben haben, ist gelöst. Es ist nichts zu tun.",
    }
)
