"""The subject of a check of eSAW: an organization of a stand-in, a sender, and an OAuth application."""

from controller.esaw_check.probes import EsawCheckSubject
from counterfoil.esaw import ApiToken
from sandbox.esaw import StandIn, User
from tests.support.builders import a_sender, an_organization

PAGES_URL = "https://sign.example"


def a_check_subject(esaw: StandIn, user: User) -> EsawCheckSubject:
    """Build the subject of a check with the key of that user, without an envelope and a draft."""
    app = esaw.register_app(name="Counterfoil", redirect_uris=[f"{PAGES_URL}/oauth/acme/return"])
    oauth = {
        "clientID": app.client_id,
        "clientSecretRef": {"name": "oauth", "key": "secret"},
        "publicURL": PAGES_URL,
    }
    return EsawCheckSubject(
        an_organization(baseURL=esaw.url, oauth=oauth, beforeSend={"fields": []}),
        sender=a_sender(userID=user.user_id),
        token=ApiToken.parse(user.token, esaw.url),
        client_secret=app.client_secret,
        client_secret_origin=esaw.url,
    )
