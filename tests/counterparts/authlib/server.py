"""Authlib's OAuth 2.0 server on Flask. Its protocol code is untouched; ours are the clients, the storage and the routes.

Clients may only do what their entry says: one method of authentication, their grants, the redirect URI that the test
registers (compared letter for letter). PKCE with S256 is required of all. A refresh token serves once; its reuse, and its
revocation, end the grant. Control: POST /_control/expire, revoke, settings {"access_ttl"}, redirect_uri {"uri"}, and
GET /_control/private_key, which the clients with a signed assertion share.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, InvalidRequestError, TokenMixin, grants
from authlib.oauth2.rfc6749.util import list_to_scope
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from flask import Flask, redirect, request, session
from joserfc.jwk import ECKey, OctKey
from serving import ACCESS_TTL, ISSUER, Counted, serve

BASIC, POST, NONE, SIGNED = "client_secret_basic", "client_secret_post", "none", "private_key_jwt"
CODE, MACHINE, ASSERTION = "authorization_code", "client_credentials", JWTBearerGrant.GRANT_TYPE
KEY = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
SHARED_SECRET = "a-shared-secret:long&odd+%/~"
LOGIN = '<form method="post"><input name="login"><input type="password" name="password"></form>'
CONSENT = '<form method="post"><button name="allow" value="yes">Allow</button><button>Deny</button></form>'
lock = RLock()
access_ttl = ACCESS_TTL
redirect_uris: set[str] = set()


@dataclass
class Client(ClientMixin):
    """A registered client."""

    client_id: str
    client_secret: str
    auth_method: str
    grants: tuple[str, ...] = (CODE, "refresh_token")
    scope: str = "profile offline"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        return list_to_scope([s for s in (scope or "").split() if s in self.scope.split()]) or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and CODE in self.grants

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grants


@dataclass
class Code(AuthorizationCodeMixin):
    """An authorization code, and what it was given for."""

    code: str
    client_id: str
    user: str
    redirect_uri: str
    scope: str
    code_challenge: str
    code_challenge_method: str
    ends: float = field(default_factory=lambda: time.time() + 60)

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Token(TokenMixin):
    """An access token with its refresh token. Those of one consent share `grant`."""

    client: Client
    user: str | None
    grant: str
    access_token: str
    refresh_token: str | None
    scope: str
    expires_in: int
    issued: float = field(default_factory=time.time)
    ended: bool = False
    spent: bool = False

    def check_client(self, client: Client) -> bool:
        return client is self.client

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> int:
        return self.expires_in

    def is_expired(self) -> bool:
        return self.issued + self.expires_in <= time.time()

    def is_revoked(self) -> bool:
        return self.ended

    def get_user(self) -> str | None:
        return self.user

    def get_client(self) -> Client:
        return self.client


registered = [
    Client("basic-app", "basic-secret", BASIC),
    Client("odd:app%/+ x", "s:e%c r+e/t~", BASIC),
    Client("post-app", "post-secret", POST),
    Client("public-app", "", NONE),
    Client("key-app", "", SIGNED),
    Client("basic-machine", "basic-secret", BASIC, (MACHINE,), "reports"),
    Client("post-machine", "post-secret", POST, (MACHINE,), "reports"),
    Client("key-machine", "", SIGNED, (MACHINE,), "reports"),
    Client("shared-app", SHARED_SECRET, SIGNED),
    Client("shared-machine", SHARED_SECRET, SIGNED, (MACHINE,), "reports"),
    Client("robot", "", SIGNED, (ASSERTION,), "reports"),
]
clients = {client.client_id: client for client in registered}
codes: dict[str, Code] = {}
tokens: list[Token] = []


def save_token(token: dict[str, Any], asked: Any) -> None:
    spent = getattr(asked, "refresh_token", None)
    grant = spent.grant if isinstance(spent, Token) else secrets.token_hex(8)
    made = (token["access_token"], token.get("refresh_token"), token.get("scope", ""), token["expires_in"])
    tokens.append(Token(asked.client, asked.user, grant, *made))


def end_grant(grant: str) -> None:
    for token in tokens:
        if token.grant == grant:
            token.ended = token.spent = True


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = (BASIC, POST, SIGNED, NONE)

    def save_authorization_code(self, code: str, request: Any) -> None:
        data = request.payload.data
        challenge = (data["code_challenge"], data["code_challenge_method"])
        given = (request.client.client_id, request.user, request.payload.redirect_uri, request.scope)
        codes[code] = Code(code, *given, *challenge)

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found = codes.get(code)
        return found if found and found.client_id == client.client_id and found.ends > time.time() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class S256(CodeChallenge):
    """PKCE for confidential clients as well, and never plain: Authlib leaves both to the operator."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        if grant.request.payload.data.get("code_challenge_method") is None:
            raise InvalidRequestError("PKCE with S256 is required")
        super().validate_code_challenge(grant, redirect_uri)


class RefreshTokenGrant(grants.RefreshTokenGrant):
    INCLUDE_NEW_REFRESH_TOKEN = True
    TOKEN_ENDPOINT_AUTH_METHODS = (BASIC, POST, SIGNED, NONE)

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        found = next((token for token in tokens if token.refresh_token == refresh_token), None)
        if found and found.spent:
            end_grant(found.grant)
            return None
        return found

    def authenticate_user(self, refresh_token: Token) -> str | None:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: Token) -> None:
        refresh_token.ended = refresh_token.spent = True


class ClientCredentialsGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = (BASIC, POST, SIGNED)


class AssertionGrant(JWTBearerGrant):
    def resolve_issuer_client(self, issuer: str) -> Client | None:
        return clients.get(issuer)

    def resolve_client_public_key(self, client: Client) -> ECKey:
        return KEY

    def authenticate_user(self, subject: str) -> str:
        return subject

    def get_audiences(self) -> list[str]:
        return [f"{ISSUER}/token"]

    def has_granted_permission(self, client: Client, user: str) -> bool:
        return user in {"jane", client.client_id}


class ClientAssertion(JWTBearerClientAssertion):
    CLIENT_AUTH_METHOD = SIGNED
    seen: set[str] = set()  # noqa: RUF012 - one for all requests

    def get_audiences(self) -> list[str]:
        return [ISSUER]

    def validate_jti(self, claims: Any, jti: str) -> bool:
        known = jti in self.seen
        self.seen.add(jti)
        return not known

    def resolve_client_public_key(self, client: Client) -> ECKey | OctKey:
        return OctKey.import_key(client.client_secret) if client.client_secret else KEY


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = (BASIC, POST, SIGNED, NONE)

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return next((token for token in tokens if token_string in {token.access_token, token.refresh_token}), None)

    def revoke_token(self, token: Token, request: Any) -> None:
        if request.form["token"] == token.refresh_token:
            end_grant(token.grant)
        token.ended = True


class Issuer(IssuerParameter):
    def get_issuer(self) -> str:
        return ISSUER


class Bearer(BearerTokenValidator):
    def authenticate_token(self, token_string: str) -> Token | None:
        return next((token for token in tokens if token.access_token == token_string), None)


app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)
server = AuthorizationServer(app, clients.get, save_token)
server.register_token_generator(
    "default",
    BearerTokenGenerator(
        lambda **_: secrets.token_urlsafe(32), lambda **_: secrets.token_urlsafe(32), lambda *_: access_ttl
    ),
)
server.register_client_auth_method(SIGNED, ClientAssertion())
server.register_grant(AuthorizationCodeGrant, [S256()])
server.register_grant(RefreshTokenGrant)
server.register_grant(ClientCredentialsGrant)
server.register_grant(AssertionGrant)
server.register_endpoint(Revocation)
server.register_extension(Issuer())
protected = ResourceProtector()
protected.register_token_validator(Bearer())


@app.route("/login", methods=["GET", "POST"])
def login() -> Any:
    if request.method == "GET":
        return LOGIN
    session["user"] = request.form["login"]
    return redirect(session.pop("next"))


@app.route("/authorize", methods=["GET", "POST"])
def authorize() -> Any:
    user = session.get("user")
    if user is None:
        session["next"] = request.full_path
        return redirect("/login")
    try:
        grant = server.get_consent_grant(end_user=user)
    except OAuth2Error as error:
        return server.handle_error_response(request, error)
    if request.method == "GET":
        return CONSENT
    return server.create_authorization_response(grant_user=user if "allow" in request.form else None, grant=grant)


@app.post("/token")
def token() -> Any:
    with lock:  # the storage is plain lists
        return server.create_token_response()


@app.post("/revoke")
def revoke() -> Any:
    with lock:
        return server.create_endpoint_response("revocation")


@app.get("/api/me")
@protected()
def me() -> Any:
    return {"sub": current_token.user, "client_id": current_token.client.client_id, "scope": current_token.scope}


def expire(_: Any) -> int:
    with lock:
        live = [token for token in tokens if not (token.ended or token.is_expired())]
        for each in live:
            each.issued = 0.0
        return len(live)


def revoke_all(_: Any) -> None:
    with lock:
        for each in tokens:
            end_grant(each.grant)


def settings(asked: dict[str, Any]) -> None:
    global access_ttl
    access_ttl = asked["access_ttl"]


controls = {
    "expire": expire,
    "revoke": revoke_all,
    "settings": settings,
    "redirect_uri": lambda asked: redirect_uris.add(asked["uri"]),
    "private_key": lambda _: KEY.as_dict(private=True),
}

if __name__ == "__main__":
    serve(Counted(app, token="/token", revoke="/revoke", controls=controls))
