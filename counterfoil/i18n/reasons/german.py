"""What each reason means and what to do about it, in German."""

from types import MappingProxyType

WORDS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "Unknown": (
            "Counterfoil nennt einen Grund, den diese Version nicht kennt.",
            "Die Meldung daneben sagt, worum es geht.",
        ),
        "ArchivedAndDeleted": (
            "Alles ist nachweislich im Archiv; der Umschlag wurde in eSignAnyWhere gelöscht.",
            "",
        ),
        "ArchivedAndKept": (
            "Alles ist nachweislich im Archiv; der Umschlag bleibt wie eingestellt in eSignAnyWhere.",
            "",
        ),
        "Recorded": ("Der Aufruf wurde vermerkt; mehr ist bei dieser Aktion nicht zu tun.", ""),
        "UnexpectedStatus": (
            "Der Umschlag endete in einem Status, den diese Organisation nicht archiviert.",
            "Sollen auch abgelehnte, stornierte oder abgelaufene Umschläge archiviert werden, gehören sie in spec.statuses.",
        ),
        "EnvelopeRestarted": (
            "Ein abgelaufener Umschlag wurde archiviert und lebte dann wieder auf; er bleibt in eSignAnyWhere.",
            "Mit seinem nächsten Aufruf geht es weiter.",
        ),
        "ActionNotConfigured": (
            "Die Organisation führt diese Aktion nicht mehr auf.",
            "Soll sie archiviert werden, gehört sie in spec.actions.",
        ),
        "SkippedByRequest": (
            "Jemand hat den Vorgang bewusst aufgegeben; der Umschlag bleibt in eSignAnyWhere.",
            "",
        ),
        "ArchivedAlready": (
            "Ein anderer Vorgang desselben Umschlags hat ihn archiviert; danach wurde er in eSignAnyWhere gelöscht.",
            "",
        ),
        "EnvelopeDeleted": (
            "Der Umschlag wurde in eSignAnyWhere gelöscht, bevor er archiviert war.",
            "Was nicht archiviert wurde, lässt sich nicht mehr holen. Prüfen, wer dort Umschläge löscht: eine Person oder eine zu kurze Aufbewahrungsfrist.",
        ),
        "DeadlineExceeded": (
            "Bis zur Frist (spec.retry.deadline) gelang kein Versuch.",
            "status.lastError nennt die Ursache. Beheben und wiederholen.",
        ),
        "StatusAccepted": ("Der Umschlag hat einen Status, der archiviert wird.", ""),
        "FilesListed": ("Die Dateien des Umschlags sind bekannt, ihre Namen im Archiv vorgemerkt.", ""),
        "FilesVerified": ("Jede Datei ist im Archiv und wurde zurückgelesen.", ""),
        "SignaturesIntact": ("Alle Signaturen in den Dokumenten sind unversehrt.", ""),
        "NoSignatures": ("Ein Dokument hat keine Signatur.", ""),
        "SignatureBroken": (
            "Eine Signatur in einem Dokument ist beschädigt oder fehlt, obwohl das Archive eine verlangt.",
            "Die Meldung nennt die Datei und was nicht stimmt. Sie in einem PDF-Programm ansehen und den Absender fragen. Um "
            "sie so abzulegen, wie sie ist, spec.signatures des Archive auf Report setzen.",
        ),
        "SignerUntrusted": (
            "Das Zertifikat eines Unterzeichners führt zu keinem Vertrauensanker des Archive, oder nicht zur Zeit der Signatur.",
            "Die Meldung nennt die Datei, den Unterzeichner und den Grund. Ist ihm zu vertrauen, das Zertifikat der "
            "ausstellenden Stelle in das Secret von spec.trustAnchorsSecretRef aufnehmen: Dann geht es von selbst weiter. Um die "
            "Datei trotzdem abzulegen, spec.signatures des Archive auf Report setzen.",
        ),
        "SignaturesUnchecked": (
            "Die Signaturen in einem Dokument wurden nicht geprüft, meist weil es größer als 64 MiB ist.",
            "Die Meldung nennt die Datei. Sie von Hand prüfen. Um sie abzulegen, obwohl das Archive Signaturen verlangt, "
            "dessen spec.signatures auf Report setzen.",
        ),
        "InProgress": ("Der Vorgang ist unterwegs.", ""),
        "CleanupDelayed": (
            "Der Umschlag ist archiviert und wird später gelöscht, wie spec.cleanup.after sagt.",
            "",
        ),
        "StillActive": (
            "eSignAnyWhere hat den Umschlag noch nicht abgeschlossen; die Aufrufe kommen etwas zu früh.",
            "Bleibt es so, den Umschlag in eSignAnyWhere ansehen.",
        ),
        "NoFiles": (
            "eSignAnyWhere nennt noch keine Datei des Umschlags.",
            "Bleibt es so, den Umschlag in eSignAnyWhere ansehen.",
        ),
        "FilesChanged": (
            "Die Dateien des Umschlags haben sich während der Archivierung geändert; sie werden neu aufgelistet.",
            "",
        ),
        "Suspended": ("Jemand hält den Vorgang an.", "spec.suspend des Vorgangs auf false setzen."),
        "OrganizationSuspended": (
            "Jemand hält alle Vorgänge der Organisation an.",
            "spec.suspend der Organization auf false setzen.",
        ),
        "SenderSuspended": (
            "Jemand hält alle Vorgänge des Absenders an.",
            "spec.suspend des Sender auf false setzen.",
        ),
        "RetryRequested": ("Jemand hat um einen neuen Versuch gebeten.", ""),
        "RequestRefused": ("Jemand bat um etwas, das nicht geht; die Notiz sagt, warum.", ""),
        "Redelivered": ("eSignAnyWhere hat erneut aufgerufen, darum beginnt der Vorgang von vorn.", ""),
        "CauseSolved": ("Woran er gescheitert war, ist behoben; darum beginnt der Vorgang von vorn.", ""),
        "ConsentRequired": (
            "Der Absender hat noch nicht zugestimmt, darum gibt es keinen Schlüssel zum Abholen der Dokumente.",
            "Der Absender öffnet den Link und stimmt zu; alles Wartende geht von selbst weiter.",
        ),
        "TokenRejected": (
            "eSignAnyWhere nimmt den Schlüssel des Absenders nicht mehr an.",
            "Der Absender erneuert die Zustimmung oder legt einen neuen API-Schlüssel in das Secret; alles Wartende geht von selbst weiter.",
        ),
        "SealBroken": (
            "Der versiegelte Schlüssel des Absenders lässt sich nicht öffnen: Er wurde verändert oder gehört zu einem anderen Absender.",
            "Der Absender stimmt noch einmal zu.",
        ),
        "KeyMissing": (
            "Das Secret mit dem Schlüssel des Absenders fehlt, oder der Schlüssel fehlt darin.",
            "Den Schlüssel dort ablegen oder spec.tokenSecretRef des Sender berichtigen; ohne diese Einstellung stimmt der Absender noch einmal zu.",
        ),
        "KeyUnreadable": (
            "Was im Secret liegt, ist kein API-Schlüssel.",
            "Den API-Schlüssel des Absenders als Text ohne Leerzeichen in das Secret legen.",
        ),
        "WrongUser": (
            "Der Schlüssel gehört einem anderen Benutzer von eSignAnyWhere, als der Sender sagt.",
            "Den Schlüssel dieses Benutzers in das Secret legen oder spec.userId berichtigen.",
        ),
        "SealingKeysMissing": (
            "Der Controller hat keine Siegelschlüssel und kann durch Zustimmung erhaltene Schlüssel nicht öffnen.",
            "Dem Controller dieselben Siegelschlüssel geben wie den Seiten (COUNTERFOIL_SEALING_KEYS).",
        ),
        "SealKeyUnknown": (
            "Der Schlüssel ist mit einem Siegelschlüssel versiegelt, den der Controller nicht hat.",
            "Diesen Siegelschlüssel zurückbringen, oder die betroffenen Absender stimmen noch einmal zu.",
        ),
        "KeyAccepted": ("eSignAnyWhere nimmt den Schlüssel des Absenders an.", ""),
        "SenderUnknown": (
            "Nichts sagt, wer den Umschlag gesendet hat; darum gibt es keinen Schlüssel zum Abholen.",
            "Ein Envelope anlegen, das den Sender nennt, oder spec.defaultSenderRef der Organization setzen. Gescheitertes wird dann erneut versucht.",
        ),
        "SenderMissing": (
            "Den genannten Sender gibt es nicht.",
            "Ihn anlegen, oder das Envelope oder spec.defaultSenderRef berichtigen, das ihn nennt.",
        ),
        "SenderOfOtherOrganization": (
            "Der genannte Sender gehört zu einer anderen Organization.",
            "Das Envelope oder spec.defaultSenderRef berichtigen, das ihn nennt.",
        ),
        "EnvelopeNotFound": (
            "Der Schlüssel des Absenders zeigt den Umschlag nicht: Es gab ihn nie, oder jemand anderes hat ihn gesendet.",
            "Mit einem Envelope sagen, wer ihn gesendet hat, dann wiederholen. Hat ihn niemand gesendet, war der Aufruf gefälscht oder vertippt: überspringen.",
        ),
        "NotPermitted": (
            "eSignAnyWhere erlaubt dies dem Absender nicht.",
            "Dem Benutzer in eSignAnyWhere das Recht geben (Dokumente herunterladen, Umschläge löschen), dann wiederholen.",
        ),
        "EsawUnreachable": (
            "eSignAnyWhere ist nicht erreichbar.",
            "Bleibt es so: eSignAnyWhere, spec.baseURL und das Netz dazwischen ansehen.",
        ),
        "EsawFailing": (
            "eSignAnyWhere antwortet mit eigenen Fehlern.",
            "Bleibt es so, den Betreiber von eSignAnyWhere fragen.",
        ),
        "EsawThrottling": (
            "eSignAnyWhere bittet um eine Pause.",
            "Bleibt es so, spec.limits.requestsPerSecond der Organization setzen.",
        ),
        "EsawAnswerUnreadable": (
            "eSignAnyWhere antwortet etwas, das keine Antwort seiner Schnittstelle ist.",
            "Prüfen, was dazwischen steht: ein Proxy, eine Anmeldeseite, eine andere Version. Eine falsche spec.baseURL berichtigen.",
        ),
        "EsawRedirects": (
            "eSignAnyWhere leitet auf eine andere Adresse um; dorthin wird der Schlüssel nicht gesendet.",
            "Ist die andere Adresse die richtige, gehört sie in spec.baseURL.",
        ),
        "EsawNotFound": (
            "eSignAnyWhere kennt nicht, wonach gefragt wurde.",
            "Prüfen, ob spec.baseURL die Adresse von eSignAnyWhere ist und dort die API v6 eingeschaltet ist.",
        ),
        "EsawRefused": (
            "eSignAnyWhere lehnt ab, worum gebeten wurde.",
            "Die Meldung enthält seine Antwort. Beheben, was sie nennt, und wiederholen; sonst bitte melden.",
        ),
        "EsawAnswers": ("eSignAnyWhere antwortet.", ""),
        "TransferBroken": (
            "Ein Herunterladen brach ab oder hatte eine andere Länge als angekündigt.",
            "Bleibt es so, das Netz dazwischen ansehen, vor allem einen Proxy.",
        ),
        "UnsupportedApiVersion": (
            "Der Umschlag wurde mit der API v5 erstellt; die API v6 kann ihn nicht lesen.",
            "Von Hand ablegen, dann den Vorgang überspringen; die sendende Anwendung auf die API v6 umstellen.",
        ),
        "EnvelopeTooLarge": (
            "Der Umschlag hat mehr Dateien oder mehr Metadaten, als sich auf einmal archivieren lassen.",
            "Die Meldung sagt, wovon es zu viel ist. Von Hand ablegen, dann den Vorgang überspringen; die sendende Anwendung kleinere Umschläge machen lassen.",
        ),
        "ArchiveMissing": (
            "Die Organization nennt kein Archive oder eines, das es nicht gibt.",
            "Das Archive anlegen oder spec.archiveRef berichtigen.",
        ),
        "ArchiveKeepsNothing": (
            "Das Archiv behält keine Dateien, und die Organization löscht Umschläge.",
            "spec.cleanup.policy der Organization auf Keep setzen oder in spec.archiveRef ein anderes Archive nennen.",
        ),
        "ArchiveNotReady": (
            "Das Archiv lässt sich nicht benutzen.",
            "Die Bedingung Ready des Archive sagt, was fehlt und was zu tun ist.",
        ),
        "ArchiveUnreachable": (
            "Das Archiv ist nicht erreichbar.",
            "Prüfen, ob es läuft; seine Adresse im Archive und das Netz dazwischen ansehen.",
        ),
        "ArchiveFailing": ("Das Archiv antwortet mit eigenen Fehlern.", "Seinen Betreiber fragen."),
        "ArchiveOverloaded": (
            "Das Archiv bittet um eine Pause.",
            "Bleibt es so, spec.maxConcurrency des Archive senken.",
        ),
        "ArchiveFull": ("Im Archiv ist kein Platz mehr.", "Es vergrößern oder sein Kontingent erhöhen."),
        "ArchiveReadOnly": (
            "Das Archiv lässt sich nur lesen.",
            "Es so einbinden oder einstellen, dass es beschreibbar ist.",
        ),
        "ArchiveLocked": (
            "Jemand hält eine Sperre auf einer Stelle im Archiv.",
            "Sie freigeben lassen; die Sperre eines abgestürzten Programms wird auf dem Server entfernt.",
        ),
        "ArchiveChanged": (
            "Jemand anderes hat das Archiv an derselben Stelle inzwischen geändert.",
            "Bleibt es so, prüfen, welches andere Programm dort schreibt.",
        ),
        "ArchiveRootMissing": (
            "Den Ordner, den das Archive nennt, gibt es nicht.",
            "Ihn anlegen oder einbinden, oder das Archive berichtigen.",
        ),
        "ArchiveBucketMissing": (
            "Den Bucket gibt es nicht, oder der Schlüssel darf ihn nicht sehen.",
            "Ihn anlegen oder spec.s3.bucket berichtigen.",
        ),
        "ArchiveRegionWrong": ("Der Bucket liegt in einer anderen Region.", "spec.s3.region berichtigen."),
        "ArchiveNoIdentity": (
            "Der Pod hat keine Identität, die das Archiv kennt.",
            "In credentialsSecretRef ein Secret nennen oder dem ServiceAccount des Controllers eine Rolle geben.",
        ),
        "ArchiveCredentialsRejected": (
            "Das Archiv nimmt die Zugangsdaten nicht an.",
            "Gültige in das Secret legen, das credentialsSecretRef nennt.",
        ),
        "ArchivePermissionDenied": (
            "Die Zugangsdaten erlauben nicht alles, was das Ablegen braucht.",
            "Auflisten, Lesen, Schreiben und Löschen unterhalb der Wurzel des Archivs erlauben; die Meldung nennt die Stelle.",
        ),
        "ArchiveRefused": (
            "Das Archiv lehnt ab, worum gebeten wurde.",
            "Die Meldung enthält seine Antwort; das Archive oder den Server berichtigen.",
        ),
        "ArchiveRedirects": (
            "Das Archiv leitet auf eine andere Adresse um; dorthin werden die Zugangsdaten nicht gesendet.",
            "Ist die andere Adresse die richtige, gehört sie in das Archive.",
        ),
        "ArchiveTlsFailed": (
            "Die verschlüsselte Verbindung zum Archiv kommt nicht zustande: Das Zertifikat ist nicht vertrauenswürdig, oder es fehlt ein gemeinsames Verfahren.",
            "Das Zertifikat erneuern oder seiner Zertifizierungsstelle vertrauen.",
        ),
        "ArchiveHostKeyUnknown": (
            "Der Server zeigt einen anderen Host-Schlüssel, als im Archive steht.",
            "Prüfen, ob es der richtige Server ist; wenn ja, seinen Schlüssel in spec.sftp.hostKeys eintragen.",
        ),
        "ArchiveAnswerUnreadable": (
            "Was antwortet, ist nicht das erwartete Archiv.",
            "Prüfen, was dazwischen steht: ein Proxy, eine Anmeldeseite. Eine falsche Adresse berichtigen.",
        ),
        "ArchiveNotWebDav": (
            "Der Server spricht unter dieser Adresse kein WebDAV.",
            "spec.webdav.url berichtigen.",
        ),
        "ArchiveNotCmis": (
            "Unter der Adresse, die das Archive nennt, gibt es kein CMIS Browser Binding.",
            "Die Adresse berichtigen; bei den meisten Produkten endet sie auf /browser.",
        ),
        "ArchiveLacksFeature": (
            "Das Archiv kann etwas nicht, was das Archive verlangt.",
            "Die Meldung nennt es; darauf verzichten oder einen anderen Server nehmen.",
        ),
        "SettingsInvalid": (
            "Das Archive oder sein Secret kann so, wie es geschrieben ist, nicht funktionieren.",
            "Die Meldung nennt die Einstellung. Sie berichtigen.",
        ),
        "ClockWrong": (
            "Das Archiv hat eine andere Uhrzeit als diese Maschine.",
            "Die Uhr stellen, die falsch geht.",
        ),
        "StoredWrong": (
            "Das Archiv nahm eine Datei an und gab eine andere zurück; der Umschlag bleibt in eSignAnyWhere.",
            "Prüfen, was unterwegs Dateien verändert: ein Filter, ein Proxy, eine defekte Platte.",
        ),
        "NameOccupied": (
            "Wo ein Dokument hin muss, liegt eine fremde Datei; sie wurde nicht angerührt.",
            "Sie verschieben oder spec.path des Archive ändern, dann wiederholen.",
        ),
        "SymbolicLink": (
            "Auf dem Weg in das Archiv liegt ein symbolischer Link; ihm wird nicht gefolgt.",
            "Ihn durch einen Ordner ersetzen.",
        ),
        "PathTooLong": ("Ein Pfad ist länger, als das Archiv erlaubt.", "spec.path des Archive kürzen."),
        "FileTooBig": ("Eine Datei ist größer, als das Archiv erlaubt.", "Die Grenze des Archivs anheben."),
        "TagMissing": (
            "Ein verlangtes Schlagwort steht nicht in den Metadaten des Umschlags.",
            "Die Regel in spec.tags des Archive berichtigen, oder prüfen, warum es in den Metadaten fehlt.",
        ),
        "MetadataUnreadable": (
            "Die Metadaten des Umschlags sind weder lesbares XML noch JSON.",
            "Prüfen, welche Anwendung sie schreibt, oder die Regeln, die sie brauchen, aus dem Archive nehmen.",
        ),
        "Probed": ("Eine Probe wurde geschrieben und zurückgelesen.", ""),
        "OrganizationMissing": (
            "Die Organization des Vorgangs gibt es nicht.",
            "Sie wieder anlegen oder den Vorgang löschen.",
        ),
        "CallbackTokenMissing": (
            "Das Secret mit dem Token für Aufrufe fehlt, oder der Schlüssel fehlt darin.",
            "Dort ein Token ablegen oder spec.callback.tokenSecretRef berichtigen.",
        ),
        "CallbackTokenRefused": (
            "Das Token für Aufrufe ist zu schwach oder hat Zeichen, die eine URL nicht tragen kann.",
            "Ein anderes in das Secret und in die URL für Aufrufe setzen.",
        ),
        "BasicAuthMissing": (
            "Das Secret für die Basic-Authentifizierung fehlt oder ist unvollständig.",
            "username und password dort ablegen oder spec.callback.basicAuthSecretRef entfernen.",
        ),
        "BasicAuthRefused": (
            "Benutzername oder Passwort der Basic-Authentifizierung sind nicht brauchbar.",
            "Andere in das Secret legen oder spec.callback.basicAuthSecretRef entfernen.",
        ),
        "FieldPatternInvalid": (
            "Ein Muster im Formular vor dem Senden ist nicht brauchbar, darum wird dort jeder Wert angenommen.",
            "Das Muster in spec.beforeSend.fields berichtigen; die Meldung sagt, was daran falsch ist.",
        ),
        "Ready": ("Aufrufe werden angenommen und Umschläge archiviert.", ""),
        "MailServerAnswers": ("Der Mailserver antwortet und nimmt die Anmeldung an.", ""),
        "MailServerUnreachable": (
            "Der Mailserver ist nicht erreichbar; Mails warten und werden gesendet, sobald er es wieder ist.",
            "Prüfen, ob er läuft und ob `host` und `port` im Secret stimmen, das smtpSecretRef nennt.",
        ),
        "MailServerNotTrusted": (
            "Das Zertifikat des Mailservers ist nicht vertrauenswürdig; es werden keine Mails gesendet.",
            "Das Zertifikat erneuern oder seine Zertifizierungsstelle als `ca.crt` in das Secret legen, das smtpSecretRef nennt.",
        ),
        "MailServerLacksTls": (
            "Der Mailserver bietet keine Verschlüsselung an; es werden keine Mails gesendet.",
            "Dort STARTTLS einschalten. Nur bei einem Server auf derselben Maschine: `tls` im Secret auf `none` setzen.",
        ),
        "MailLoginRefused": (
            "Der Mailserver nimmt die Anmeldung nicht an.",
            "Gültige `username` und `password` in das Secret legen, das smtpSecretRef nennt.",
        ),
        "MailRefused": (
            "Der Mailserver nimmt eine Mail nicht an.",
            "Die Meldung enthält seine Antwort. spec.notifications.from, die Adresse des Empfängers und die Regeln des Servers prüfen.",
        ),
        "MailSettingsInvalid": (
            "So, wie es eingestellt ist, lassen sich keine Mails senden.",
            "Die Meldung nennt, was in spec.notifications oder im Secret falsch ist, das smtpSecretRef nennt.",
        ),
        "NotProven": (
            "Es ist nicht bewiesen, dass alles im Archiv ist; darum wurde der Umschlag nicht gelöscht.",
            "Wiederholen; kommt es wieder, bitte melden.",
        ),
        "StatusRefused": (
            "Der API-Server nimmt den neuen Status des Vorgangs nicht an.",
            "Prüfen, ob die CustomResourceDefinitions zu dieser Version gehören, dann wiederholen.",
        ),
        "ApiServerTrouble": (
            "Der Kubernetes-API-Server tat nicht, worum er gebeten wurde.",
            "Bleibt es so, prüfen, ob die Role des Controllers vollständig ist.",
        ),
        "InternalError": (
            "Counterfoil ist auf einen eigenen Fehler gestoßen.",
            "Einzelheiten stehen im Log des Controllers; bitte melden.",
        ),
    }
)
