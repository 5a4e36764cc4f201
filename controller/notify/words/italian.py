"""The texts of mails in Italian."""

from types import MappingProxyType

WORDS: MappingProxyType[str, str] = MappingProxyType(
    {
        "hello": "Buongiorno,",
        "hello.name": "Buongiorno {name},",
        "what": "Che cosa è successo",
        "do": "Che cosa fare",
        "message": "Il messaggio dice",
        "examples": "Esempi",
        "senders": "Mittenti",
        "commands": "Comandi",
        "console": "Aprire la console",
        "footer": "Inviato da Counterfoil per l'organizzazione {organization}. Riceve un messaggio per ogni problema, non uno per ogni busta.",
        "consent.subject": "Ci permetta di nuovo di archiviare i Suoi documenti firmati",
        "consent.first": "Ci permetta di archiviare i Suoi documenti firmati",
        "consent.died": "eSignAnyWhere non accetta più la chiave con cui archiviamo i Suoi documenti firmati. È stata revocata, oppure è scaduta.",
        "consent.required": "Per archiviare i Suoi documenti firmati ci serve una volta il Suo consenso: con esso otteniamo una chiave per prelevarli da eSignAnyWhere.",
        "consent.waiting": "{count} delle Sue buste lo attendono. Nulla va perso.",
        "consent.waiting.1": "Una delle Sue buste lo attende. Nulla va perso.",
        "consent.link": "Apra la pagina qui sotto, acceda a eSignAnyWhere con il Suo utente e acconsenta. Tutto ciò che attende viene poi archiviato da sé; non c'è altro da fare.",
        "consent.button": "Acconsentire",
        "consent.nolink": "La prossima volta che invia una busta in eSignAnyWhere Le sarà chiesto il consenso. Tutto ciò che attende viene poi archiviato da sé.",
        "consent.brought": "Crei una nuova chiave API in eSignAnyWhere e la dia al Suo amministratore in modo sicuro (mai per posta elettronica): va nel Secret {secret}, alla voce {key}. Tutto ciò che attende viene poi archiviato da sé.",
        "escalation.subject": "{count} mittenti non hanno ancora dato il consenso",
        "escalation.subject.1": "Un mittente non ha ancora dato il consenso",
        "escalation.text": "A questi mittenti è stato chiesto un nuovo consenso e non hanno reagito, oppure non sono raggiungibili per posta elettronica. Fino ad allora le loro buste non vengono archiviate. Li solleciti; il link vale solo per il mittente interessato.",
        "escalation.sender": "{name} ({waiting} in attesa)",
        "escalation.more": "e altri {count}",
        "failed.subject": "{count} eventi sono falliti: {reason}",
        "failed.subject.1": "Un evento è fallito: {reason}",
        "failed.text": "{count} chiamate di eSignAnyWhere non si sono potute elaborare, tutte per lo stesso motivo. Le loro buste restano in eSignAnyWhere. Altre dello stesso tipo aumentano solo il numero; non riceverà altri messaggi al riguardo.",
        "failed.text.1": "Una chiamata di eSignAnyWhere non si è potuta elaborare. La sua busta resta in eSignAnyWhere. Altre dello stesso tipo aumentano solo il numero; non riceverà altri messaggi al riguardo.",
        "archive.subject": "L'archivio {archive} non si può usare: {reason}",
        "archive.text": "Alcune buste attendono perché l'archivio {archive} non si può usare. Nulla va perso; vengono archiviate da sé non appena funziona.",
        "key.subject": "Le chiavi di {count} mittenti non si possono usare: {reason}",
        "key.subject.1": "La chiave di un mittente non si può usare: {reason}",
        "key.text": "Alcune buste non vengono archiviate perché le chiavi dei loro mittenti non si possono usare. I mittenti non possono farci nulla. Tutto ciò che attende prosegue da sé quando si è rimediato.",
        "solved.subject": "Risolto: {subject}",
        "solved.text": "Questo problema, di cui Le abbiamo scritto il {date}, è risolto. Non c'è nulla da fare.",
    }
)
