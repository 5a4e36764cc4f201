"""What each reason means and what to do about it, in Italian."""

from types import MappingProxyType

WORDS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "Unknown": (
            "Counterfoil indica un motivo che questa versione non conosce.",
            "Il messaggio accanto dice di che cosa si tratta.",
        ),
        "ArchivedAndDeleted": (
            "Tutto è nell'archivio ed è stato verificato; la busta è stata eliminata in eSignAnyWhere.",
            "",
        ),
        "ArchivedAndKept": (
            "Tutto è nell'archivio ed è stato verificato; la busta resta in eSignAnyWhere, come impostato.",
            "",
        ),
        "Recorded": ("La chiamata è stata annotata; per questa azione non c'è altro da fare.", ""),
        "UnexpectedStatus": (
            "La busta è terminata in uno stato che questa organizzazione non archivia.",
            "Per archiviare anche le buste rifiutate, annullate o scadute, aggiungerle a spec.statuses.",
        ),
        "EnvelopeRestarted": (
            "Una busta scaduta è stata archiviata e poi riattivata; resta in eSignAnyWhere.",
            "Si prosegue con la sua prossima chiamata.",
        ),
        "ActionNotConfigured": (
            "L'organizzazione non elenca più questa azione.",
            "Se va archiviata, aggiungerla a spec.actions.",
        ),
        "SkippedByRequest": (
            "Qualcuno ha rinunciato di proposito a questo evento; la busta resta in eSignAnyWhere.",
            "",
        ),
        "ArchivedAlready": (
            "Un altro evento della stessa busta l'ha archiviata; in seguito è stata eliminata in eSignAnyWhere.",
            "",
        ),
        "EnvelopeDeleted": (
            "La busta è stata eliminata in eSignAnyWhere prima di essere archiviata.",
            "Ciò che non è stato archiviato non si può più recuperare. Verificare chi elimina le buste: una persona, o un periodo di conservazione troppo breve.",
        ),
        "DeadlineExceeded": (
            "Nessun tentativo è riuscito entro il termine (spec.retry.deadline).",
            "status.lastError dice la causa. Rimediare e riprovare.",
        ),
        "StatusAccepted": ("La busta ha uno stato che viene archiviato.", ""),
        "FilesListed": ("I file della busta sono noti e i loro nomi nell'archivio sono riservati.", ""),
        "FilesVerified": ("Ogni file è nell'archivio ed è stato riletto.", ""),
        "SignaturesIntact": ("Tutte le firme nei documenti sono integre.", ""),
        "NoSignatures": ("Un documento non ha firme.", ""),
        "SignatureBroken": (
            "Una firma in un documento è danneggiata o, dove l'Archive la richiede, manca.",
            "Il messaggio indica il file e che cosa non va. Guardarlo in un lettore PDF e chiedere al mittente. Per archiviarlo "
            "così com'è, impostare spec.signatures dell'Archive su Report.",
        ),
        "SignerUntrusted": (
            "Il certificato di un firmatario non porta a nessuna delle ancore di fiducia dell'Archive, o non al momento della "
            "firma.",
            "Il messaggio indica il file, il firmatario e il motivo. Se è degno di fiducia, aggiungere il certificato dell'autorità "
            "emittente al Secret di spec.trustAnchorsSecretRef: l'evento prosegue da solo. Per archiviare comunque il file, impostare "
            "spec.signatures dell'Archive su Report.",
        ),
        "SignaturesUnchecked": (
            "Le firme in un documento non sono state verificate, di solito perché supera i 64 MiB.",
            "Il messaggio indica il file. Verificarlo a mano. Per archiviarlo benché l'Archive richieda firme, impostare il suo "
            "spec.signatures su Report.",
        ),
        "InProgress": ("L'evento è in lavorazione.", ""),
        "CleanupDelayed": (
            "La busta è archiviata e sarà eliminata più tardi, come dice spec.cleanup.after.",
            "",
        ),
        "StillActive": (
            "eSignAnyWhere non ha ancora concluso la busta; le sue chiamate arrivano un po' in anticipo.",
            "Se dura, controllare la busta in eSignAnyWhere.",
        ),
        "NoFiles": (
            "eSignAnyWhere non elenca ancora alcun file della busta.",
            "Se dura, controllare la busta in eSignAnyWhere.",
        ),
        "FilesChanged": (
            "I file della busta sono cambiati durante l'archiviazione; vengono elencati di nuovo.",
            "",
        ),
        "Suspended": ("Qualcuno ha sospeso l'evento.", "Impostare spec.suspend dell'evento su false."),
        "OrganizationSuspended": (
            "Qualcuno ha sospeso tutti gli eventi dell'organizzazione.",
            "Impostare spec.suspend della Organization su false.",
        ),
        "SenderSuspended": (
            "Qualcuno ha sospeso tutti gli eventi del mittente.",
            "Impostare spec.suspend del Sender su false.",
        ),
        "RetryRequested": ("Qualcuno ha chiesto di riprovare.", ""),
        "RequestRefused": ("Qualcuno ha chiesto qualcosa che non è possibile; la nota dice perché.", ""),
        "Redelivered": ("eSignAnyWhere ha chiamato di nuovo, perciò l'evento ricomincia.", ""),
        "CauseSolved": ("La causa del fallimento è stata rimossa, perciò l'evento ricomincia.", ""),
        "ConsentRequired": (
            "Il mittente non ha ancora dato il consenso, perciò manca la chiave per prelevare i documenti.",
            "Il mittente apre il link e acconsente; tutto ciò che attende prosegue da sé.",
        ),
        "TokenRejected": (
            "eSignAnyWhere non accetta più la chiave del mittente.",
            "Il mittente rinnova il consenso, oppure mette una nuova chiave API nel Secret; tutto ciò che attende prosegue da sé.",
        ),
        "SealBroken": (
            "La chiave sigillata del mittente non si può aprire: è stata modificata o appartiene a un altro mittente.",
            "Il mittente dà di nuovo il consenso.",
        ),
        "KeyMissing": (
            "Il Secret con la chiave del mittente non c'è, oppure non contiene quella chiave.",
            "Mettervi la chiave, o correggere spec.tokenSecretRef del Sender; senza questa impostazione il mittente dà di nuovo il consenso.",
        ),
        "KeyUnreadable": (
            "Ciò che si trova nel Secret non è una chiave API.",
            "Mettere nel Secret la chiave API del mittente, come testo senza spazi.",
        ),
        "WrongUser": (
            "La chiave appartiene a un utente di eSignAnyWhere diverso da quello indicato nel Sender.",
            "Mettere nel Secret la chiave di questo utente, o correggere spec.userId.",
        ),
        "SealingKeysMissing": (
            "Il controller non ha chiavi di sigillo, perciò non può aprire le chiavi ottenute con il consenso.",
            "Dare al controller le stesse chiavi di sigillo delle pagine (COUNTERFOIL_SEALING_KEYS).",
        ),
        "SealKeyUnknown": (
            "La chiave è sigillata con una chiave di sigillo che il controller non ha.",
            "Ripristinare quella chiave di sigillo, o far dare di nuovo il consenso ai mittenti interessati.",
        ),
        "KeyAccepted": ("eSignAnyWhere accetta la chiave del mittente.", ""),
        "SenderUnknown": (
            "Nulla dice chi ha inviato la busta, perciò manca la chiave per prelevarla.",
            "Creare un Envelope che indica il Sender, o impostare spec.defaultSenderRef della Organization. Ciò che era fallito viene poi ritentato.",
        ),
        "SenderMissing": (
            "Il Sender indicato non esiste.",
            "Crearlo, o correggere l'Envelope o spec.defaultSenderRef che lo indica.",
        ),
        "SenderOfOtherOrganization": (
            "Il Sender indicato appartiene a un'altra Organization.",
            "Correggere l'Envelope o spec.defaultSenderRef che lo indica.",
        ),
        "EnvelopeNotFound": (
            "La chiave del mittente non mostra la busta: non è mai esistita, o l'ha inviata qualcun altro.",
            "Indicare con un Envelope chi l'ha inviata, poi riprovare. Se non l'ha inviata nessuno, la chiamata era falsa o errata: saltarla.",
        ),
        "NotPermitted": (
            "eSignAnyWhere non lo permette al mittente.",
            "Dare all'utente il permesso in eSignAnyWhere (scaricare documenti, eliminare buste), poi riprovare.",
        ),
        "EsawUnreachable": (
            "eSignAnyWhere non è raggiungibile.",
            "Se dura, controllare eSignAnyWhere, spec.baseURL e la rete che sta in mezzo.",
        ),
        "EsawFailing": (
            "eSignAnyWhere risponde con errori propri.",
            "Se dura, chiedere a chi gestisce eSignAnyWhere.",
        ),
        "EsawThrottling": (
            "eSignAnyWhere chiede una pausa.",
            "Se dura, impostare spec.limits.requestsPerSecond della Organization.",
        ),
        "EsawAnswerUnreadable": (
            "eSignAnyWhere risponde qualcosa che non è una risposta della sua API.",
            "Verificare che cosa sta in mezzo: un proxy, una pagina di accesso, un'altra versione. Correggere spec.baseURL se è errato.",
        ),
        "EsawRedirects": (
            "eSignAnyWhere rimanda a un altro indirizzo; la chiave non vi viene inviata.",
            "Se quell'indirizzo è quello giusto, metterlo in spec.baseURL.",
        ),
        "EsawNotFound": (
            "eSignAnyWhere non conosce ciò che è stato chiesto.",
            "Verificare che spec.baseURL sia l'indirizzo di eSignAnyWhere e che la sua API v6 sia attiva.",
        ),
        "EsawRefused": (
            "eSignAnyWhere rifiuta ciò che è stato chiesto.",
            "Il messaggio riporta la sua risposta. Rimediare a ciò che indica e riprovare; altrimenti segnalarlo.",
        ),
        "EsawAnswers": ("eSignAnyWhere risponde.", ""),
        "TransferBroken": (
            "Un prelievo si è interrotto, o aveva una lunghezza diversa da quella annunciata.",
            "Se dura, controllare la rete che sta in mezzo, soprattutto un proxy.",
        ),
        "UnsupportedApiVersion": (
            "La busta è stata creata con l'API v5, che l'API v6 non può leggere.",
            "Archiviarla a mano, poi saltare l'evento; far usare l'API v6 all'applicazione che invia.",
        ),
        "EnvelopeTooLarge": (
            "La busta ha più file, o più metadati, di quanti se ne possano archiviare in una volta.",
            "Il messaggio dice che cosa è di troppo. Archiviarla a mano, poi saltare l'evento; far creare buste più piccole all'applicazione che invia.",
        ),
        "ArchiveMissing": (
            "La Organization non indica alcun Archive, o ne indica uno che non esiste.",
            "Creare l'Archive, o correggere spec.archiveRef.",
        ),
        "ArchiveKeepsNothing": (
            "L'archivio non conserva alcun file, e la Organization elimina le buste.",
            "Impostare spec.cleanup.policy della Organization su Keep, o indicare un altro Archive in spec.archiveRef.",
        ),
        "ArchiveNotReady": (
            "L'archivio non si può usare.",
            "La condizione Ready dell'Archive dice che cosa non va e che cosa fare.",
        ),
        "ArchiveUnreachable": (
            "L'archivio non è raggiungibile.",
            "Verificare se è in funzione, il suo indirizzo nell'Archive e la rete che sta in mezzo.",
        ),
        "ArchiveFailing": ("L'archivio risponde con errori propri.", "Chiedere a chi lo gestisce."),
        "ArchiveOverloaded": (
            "L'archivio chiede una pausa.",
            "Se dura, ridurre spec.maxConcurrency dell'Archive.",
        ),
        "ArchiveFull": ("Nell'archivio non c'è più spazio.", "Ingrandirlo, o aumentarne la quota."),
        "ArchiveReadOnly": (
            "L'archivio è di sola lettura.",
            "Montarlo, o impostarlo, in modo che vi si possa scrivere.",
        ),
        "ArchiveLocked": (
            "Qualcuno tiene bloccato un punto dell'archivio.",
            "Farlo sbloccare; il blocco di un programma terminato si rimuove sul server.",
        ),
        "ArchiveChanged": (
            "Qualcun altro ha modificato l'archivio nello stesso punto.",
            "Se dura, verificare quale altro programma vi scrive.",
        ),
        "ArchiveRootMissing": (
            "La cartella indicata dall'Archive non esiste.",
            "Crearla o montarla, o correggere l'Archive.",
        ),
        "ArchiveBucketMissing": (
            "Il bucket non esiste, o la chiave non può vederlo.",
            "Crearlo, o correggere spec.s3.bucket.",
        ),
        "ArchiveRegionWrong": ("Il bucket è in un'altra regione.", "Correggere spec.s3.region."),
        "ArchiveNoIdentity": (
            "Il pod non ha un'identità nota all'archivio.",
            "Indicare un Secret in credentialsSecretRef, o dare un ruolo al ServiceAccount del controller.",
        ),
        "ArchiveCredentialsRejected": (
            "L'archivio non accetta le credenziali.",
            "Mettere credenziali valide nel Secret indicato da credentialsSecretRef.",
        ),
        "ArchivePermissionDenied": (
            "Le credenziali non permettono tutto ciò che serve per archiviare.",
            "Permettere di elencare, leggere, scrivere ed eliminare sotto la radice dell'archivio; il messaggio indica il punto.",
        ),
        "ArchiveRefused": (
            "L'archivio rifiuta ciò che è stato chiesto.",
            "Il messaggio riporta la sua risposta; correggere l'Archive o il server.",
        ),
        "ArchiveRedirects": (
            "L'archivio rimanda a un altro indirizzo; le credenziali non vi vengono inviate.",
            "Se quell'indirizzo è quello giusto, metterlo nell'Archive.",
        ),
        "ArchiveTlsFailed": (
            "La connessione cifrata all'archivio non riesce: il certificato non è attendibile, o manca un metodo comune.",
            "Rinnovare il certificato, o rendere attendibile la sua autorità.",
        ),
        "ArchiveHostKeyUnknown": (
            "Il server mostra una chiave host diversa da quelle elencate nell'Archive.",
            "Verificare che sia il server giusto; in tal caso mettere la sua chiave in spec.sftp.hostKeys.",
        ),
        "ArchiveAnswerUnreadable": (
            "Ciò che risponde non è l'archivio atteso.",
            "Verificare che cosa sta in mezzo: un proxy, una pagina di accesso. Correggere l'indirizzo se è errato.",
        ),
        "ArchiveNotWebDav": (
            "A questo indirizzo il server non parla WebDAV.",
            "Correggere spec.webdav.url.",
        ),
        "ArchiveNotCmis": (
            "All'indirizzo indicato dall'Archive non c'è alcun browser binding CMIS.",
            "Correggere l'indirizzo; per la maggior parte dei prodotti termina con /browser.",
        ),
        "ArchiveLacksFeature": (
            "L'archivio non sa fare qualcosa che l'Archive richiede.",
            "Il messaggio la indica; rinunciarvi, o usare un altro server.",
        ),
        "SettingsInvalid": (
            "L'Archive, o il suo Secret, non può funzionare così com'è scritto.",
            "Il messaggio indica l'impostazione. Correggerla.",
        ),
        "ClockWrong": (
            "L'archivio ha un'ora diversa da questa macchina.",
            "Regolare l'orologio che sbaglia.",
        ),
        "StoredWrong": (
            "L'archivio ha preso un file e ne ha restituito un altro; la busta resta in eSignAnyWhere.",
            "Verificare che cosa modifica i file lungo il percorso: un filtro, un proxy, un disco guasto.",
        ),
        "NameOccupied": (
            "Dove deve andare un documento si trova un file di altri; non è stato toccato.",
            "Spostarlo, o cambiare spec.path dell'Archive, poi riprovare.",
        ),
        "SymbolicLink": (
            "Sul percorso verso l'archivio c'è un collegamento simbolico; non viene seguito.",
            "Sostituirlo con una cartella.",
        ),
        "PathTooLong": (
            "Un percorso è più lungo di quanto l'archivio accetti.",
            "Accorciare spec.path dell'Archive.",
        ),
        "FileTooBig": (
            "Un file è più grande di quanto l'archivio accetti.",
            "Aumentare il limite dell'archivio.",
        ),
        "TagMissing": (
            "Un'etichetta obbligatoria manca nei metadati della busta.",
            "Correggere la regola in spec.tags dell'Archive, o verificare perché manca nei metadati.",
        ),
        "MetadataUnreadable": (
            "I metadati della busta non sono né XML né JSON leggibile.",
            "Verificare quale applicazione li scrive, o togliere dall'Archive le regole che ne hanno bisogno.",
        ),
        "Probed": ("Una prova è stata scritta e riletta.", ""),
        "OrganizationMissing": (
            "La Organization dell'evento non esiste.",
            "Crearla di nuovo, o eliminare l'evento.",
        ),
        "CallbackTokenMissing": (
            "Il Secret con il token per le chiamate non c'è, oppure non contiene quella chiave.",
            "Mettervi un token, o correggere spec.callback.tokenSecretRef.",
        ),
        "CallbackTokenRefused": (
            "Il token per le chiamate è troppo debole, o ha caratteri che un URL non può portare.",
            "Metterne un altro nel Secret e nell'URL delle chiamate.",
        ),
        "BasicAuthMissing": (
            "Il Secret per l'autenticazione Basic non c'è, o è incompleto.",
            "Mettervi username e password, o togliere spec.callback.basicAuthSecretRef.",
        ),
        "BasicAuthRefused": (
            "Nome utente o password dell'autenticazione Basic non sono utilizzabili.",
            "Metterne altri nel Secret, o togliere spec.callback.basicAuthSecretRef.",
        ),
        "FieldPatternInvalid": (
            "Un modello nel modulo prima dell'invio non è utilizzabile, perciò lì si accetta qualsiasi valore.",
            "Correggere il modello in spec.beforeSend.fields; il messaggio dice che cosa non va.",
        ),
        "Ready": ("Le chiamate vengono accettate e le buste archiviate.", ""),
        "MailServerAnswers": ("Il server di posta risponde e accetta l'accesso.", ""),
        "MailServerUnreachable": (
            "Il server di posta non è raggiungibile; i messaggi attendono e partono quando torna.",
            "Verificare se è in funzione, e `host` e `port` nel Secret indicato da smtpSecretRef.",
        ),
        "MailServerNotTrusted": (
            "Il certificato del server di posta non è attendibile; non si invia alcun messaggio.",
            "Rinnovare il certificato, o mettere la sua autorità come `ca.crt` nel Secret indicato da smtpSecretRef.",
        ),
        "MailServerLacksTls": (
            "Il server di posta non offre cifratura; non si invia alcun messaggio.",
            "Attivarvi STARTTLS. Solo per un server sulla stessa macchina: impostare `tls` nel Secret su `none`.",
        ),
        "MailLoginRefused": (
            "Il server di posta non accetta l'accesso.",
            "Mettere `username` e `password` validi nel Secret indicato da smtpSecretRef.",
        ),
        "MailRefused": (
            "Il server di posta non accetta un messaggio.",
            "Il messaggio riporta la sua risposta. Controllare spec.notifications.from, l'indirizzo del destinatario e le regole del server.",
        ),
        "MailSettingsInvalid": (
            "Con queste impostazioni non si possono inviare messaggi.",
            "Il messaggio indica che cosa è errato in spec.notifications o nel Secret indicato da smtpSecretRef.",
        ),
        "NotProven": (
            "Non è provato che tutto sia nell'archivio, perciò la busta non è stata eliminata.",
            "Riprovare; se si ripete, segnalarlo.",
        ),
        "StatusRefused": (
            "Il server API non accetta il nuovo stato dell'evento.",
            "Verificare che le CustomResourceDefinitions siano di questa versione, poi riprovare.",
        ),
        "ApiServerTrouble": (
            "Il server API di Kubernetes non ha fatto ciò che gli è stato chiesto.",
            "Se dura, verificare che il Role del controller sia completo.",
        ),
        "InternalError": (
            "Counterfoil è incorso in un proprio errore.",
            "I dettagli sono nel log del controller; segnalarlo.",
        ),
    }
)
