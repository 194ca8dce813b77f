"""The checks of the preflight that speak OAuth: discovery document, registered callback, client authentication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from mooring.accounts import diagnosing, tokens
from mooring.connectors.apply import render_map
from mooring.connectors.definition import ClientAuth, OAuth2
from mooring.diagnosis.evidence import Diagnosis, Evidence
from mooring.diagnosis.rules import diagnose
from mooring.diagnosis.table import CAUSES
from mooring.kit import ids
from mooring.kit.http import BufferedResponse, HttpFailure, OutboundRequest
from mooring.protocol import oauth2 as messages
from mooring.protocol.oauth2 import TokenNonsense, TokenRefused
from mooring.protocol.redact import clean_line

if TYPE_CHECKING:
    from mooring.connect.preflight import Flight
    from mooring.protocol.template import Template

Status = Literal["ok", "warning", "failed", "skipped"]
_METHOD_NAMES: Final[dict[ClientAuth, str]] = {
    "basic": "client_secret_basic",
    "basic_raw": "client_secret_basic",
    "post": "client_secret_post",
    "private_key_jwt": "private_key_jwt",
    "client_secret_jwt": "client_secret_jwt",
    "none": "none",
}
_OTHER: Final[dict[ClientAuth, ClientAuth]] = {"basic": "post", "basic_raw": "post", "post": "basic"}
_COMPARED: Final = (
    ("authorization_endpoint", "authorize_url"),
    ("token_endpoint", "token_url"),
    ("revocation_endpoint", "revoke_url"),
    ("pushed_authorization_request_endpoint", "par_url"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One result. `detail` is technical and holds no secret."""

    check: str
    status: Status
    cause: str | None = None
    detail: str | None = None
    what_to_do: str | None = None


def passed(check: str, detail: str) -> Check:
    """A check that found nothing wrong."""
    return Check(check, "ok", detail=clean_line(detail, 500))


def skipped(check: str, why: str) -> Check:
    """A check that could not be made, or has no meaning here."""
    return Check(check, "skipped", detail=why)


def failed(check: str, cause: str, detail: str) -> Check:
    """A check that found why linking can't work."""
    return Check(check, "failed", cause, clean_line(detail, 500), CAUSES[cause].for_operator)


def warned(check: str, cause: str, detail: str) -> Check:
    """A check that found something odd, with which linking may still work."""
    return replace(failed(check, cause, detail), status="warning")


async def discovery(flight: Flight) -> Sequence[Check]:
    """Compare the provider's description of itself with the connector (RFC 8414, OpenID Connect Discovery)."""
    oauth2 = flight.oauth2
    if oauth2 is None:
        return [skipped("discovery", "this method is not OAuth"), skipped("pkce", "this method is not OAuth")]
    issuer = flight.url(oauth2.issuer)
    base = issuer or _origin(flight.url(oauth2.authorize_url) or flight.url(oauth2.token_url))
    document = await _document(flight, base) if base else None
    if document is None:
        why = "the provider publishes no discovery document"
        return [skipped("discovery", why), skipped("pkce", why)]
    return [*_compare(flight, oauth2, issuer, document), _pkce(oauth2, document)]


async def _document(flight: Flight, base: str) -> Mapping[str, Any] | None:
    parts = urlsplit(base)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    for url in (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    ):
        try:
            response = await flight.send(OutboundRequest("GET", url, [("accept", "application/json")]))
            data = response.json() if response.status == 200 else None
        except (HttpFailure, ValueError):
            continue
        if isinstance(data, dict) and isinstance(data.get("issuer"), str):
            return data
    return None


def _compare(flight: Flight, oauth2: OAuth2, issuer: str | None, document: Mapping[str, Any]) -> list[Check]:
    out = []
    if issuer is not None and document["issuer"] != issuer:  # RFC 8414 §3.3: by exact text
        out.append(
            failed(
                "discovery", "discovery_mismatch", f"issuer is {document['issuer']!r}, the connector says {issuer!r}"
            )
        )
    differing = []
    for name, key in _COMPARED:
        told, ours = document.get(name), flight.url(getattr(oauth2, key))
        if isinstance(told, str) and ours is not None and told.partition("?")[0] != ours.partition("?")[0]:
            differing.append(f"{name} is {told.partition('?')[0]}, the connector says {ours.partition('?')[0]}")
    if differing:
        out.append(warned("discovery", "discovery_mismatch", "; ".join(differing)))
    methods = document.get("token_endpoint_auth_methods_supported")
    if isinstance(methods, list) and _METHOD_NAMES[oauth2.client_auth] not in methods:
        words = f"the provider takes {', '.join(map(str, methods))}; the connector uses {oauth2.client_auth}"
        out.append(warned("discovery", "wrong_client_auth", words))
    scopes = document.get("scopes_supported")
    unknown = [s for s in flight.opened.scopes if isinstance(scopes, list) and s not in scopes]
    if unknown:
        out.append(warned("discovery", "invalid_scope", f"the provider does not list: {', '.join(unknown)}"))
    return out or [passed("discovery", f"{document['issuer']} describes the same endpoints")]


def _pkce(oauth2: OAuth2, document: Mapping[str, Any]) -> Check:
    methods = document.get("code_challenge_methods_supported")
    if oauth2.grant != "authorization_code":
        return skipped("pkce", "only the authorization code flow has it")
    if not isinstance(methods, list):
        return skipped("pkce", "the provider does not say; S256 is sent all the same")
    if not oauth2.pkce:
        return warned("pkce", "pkce_refused", "the provider supports PKCE, but the connector turns it off")
    if "S256" in methods:
        return passed("pkce", "S256 is advertised")
    return failed("pkce", "pkce_refused", f"the provider advertises {', '.join(map(str, methods))}, not S256")


async def callback_registered(flight: Flight) -> Sequence[Check]:
    """Open the consent page's address as a browser would, without a session: does the provider know client and callback?"""
    name, oauth2 = "callback_registered", flight.oauth2
    if oauth2 is None or oauth2.authorize_url is None:
        return [skipped(name, "this method has no consent page")]
    endpoint = flight.url(oauth2.authorize_url)
    if endpoint is None:
        return [skipped(name, "the address depends on a value of the account; give it in `fields`")]
    asked = messages.authorization_request(
        client_id=flight.opened.setup.get("client_id", ""),
        redirect_uri=flight.callback,
        state=ids.secret_token(),
        scopes=flight.opened.scopes,  # one that holds an account's value goes as it is written: only the callback is tried
        scope_separator=oauth2.scope_separator,
        challenge=messages.pkce_challenge(ids.secret_token(48)) if oauth2.pkce else None,
        extra=render_map(oauth2.authorize_params, flight.scope),
    )
    if oauth2.par_url is not None:
        return [await _pushed(flight, name, oauth2.par_url, asked)]
    request = OutboundRequest("GET", messages.add_query(endpoint, [*asked.items()]), [("accept", "text/html")])
    try:
        response = await flight.send(request)
    except HttpFailure as e:
        return [failed(name, diagnosing.of_failure(e, "preflight", None, {}).code, str(e))]
    return [_of_consent_page(flight, name, response)]


async def _pushed(flight: Flight, name: str, par_url: Template, asked: Mapping[str, str]) -> Check:
    """Push the request as a flow would: the answer says whether the provider knows client and callback."""
    url = flight.url(par_url)
    if url is None:
        return skipped(name, "the address depends on a value of the account; give it in `fields`")
    try:
        await tokens.push_request(flight.context.http, flight.opened, flight.scope, url, asked)
    except HttpFailure as e:
        return failed(name, diagnosing.of_failure(e, "preflight", None, {}).code, str(e))
    except (TokenRefused, TokenNonsense) as e:
        opened = flight.opened
        found = diagnosing.of_token_error(e, opened.connector, "preflight", method=opened.method)
        return failed(name, found.code, str(e))
    return passed(name, "the provider takes a pushed request for this client and callback URL")


def _of_consent_page(flight: Flight, name: str, response: BufferedResponse) -> Check:
    """A page or a redirect to a login is fine. An error page, or a redirect back with an error, is not."""
    location = response.header("location") or ""
    query = parse_qs(urlsplit(location).query)
    if location.startswith(flight.callback) and "error" in query:
        found = _denial(query["error"][0], " ".join(query.get("error_description", [])))
        if found.code in {"login_required", "access_denied"}:  # it knows us, and wants a person
            return passed(name, "the provider knows the client and the callback URL")
        return failed(name, found.code, f"{query['error'][0]}: {' '.join(query.get('error_description', []))}")
    if response.status < 400:
        return passed(name, "the provider shows its consent or login page for this client and callback URL")
    text = response.body[:20_000].decode("utf-8", "replace")
    code = _denial("", text).code
    if code == "authorization_failed":
        lower = text.lower()
        code = "client_rejected" if "client" in lower else "authorization_failed"
    hidden = tokens.hidden_values(flight.opened, flight.scope, {})
    shown = diagnosing.seen(OutboundRequest("GET", ""), response, hidden).body[:300]
    if response.status >= 500 or response.status == 429:
        return warned(name, "provider_error", f"{response.status}: {shown}")
    make = failed if code in {"redirect_uri_mismatch", "client_rejected"} else warned
    return make(name, code, f"{response.status}: {shown}")


def _denial(error: str, description: str) -> Diagnosis:
    return diagnose(Evidence("callback", error=error, description=description))


async def client_authentication(flight: Flight) -> Sequence[Check]:
    """Ask for a token with a code that can't exist: `invalid_grant` says that the client itself was accepted."""
    name, oauth2 = "client_authentication", flight.oauth2
    if oauth2 is None:
        return [skipped(name, "this method is not OAuth")]
    if oauth2.grant != "authorization_code":
        return [skipped(name, "the client belongs to the end user; it is tested when an account is linked")]
    if flight.url(oauth2.token_url) is None:
        return [skipped(name, "the address depends on a value of the account; give it in `fields`")]
    found = await _bogus_exchange(flight, oauth2.client_auth)
    if found is None:
        return [passed(name, f"the provider knows this client, and takes its secret by {oauth2.client_auth}")]
    words = f"by {oauth2.client_auth}: {found.detail or found.cause.title}"
    if found.code in {"client_rejected", "wrong_client_auth"} and oauth2.client_auth in _OTHER:
        other = _OTHER[oauth2.client_auth]
        if await _bogus_exchange(flight, other) is None:
            return [failed(name, "wrong_client_auth", f"{words}; by {other} the same client is accepted")]
    doubtful = {"token_request_refused", "provider_error", "rate_limited", "unexpected_answer", "maintenance"}
    make = warned if found.code in doubtful else failed
    return [make(name, found.code, words)]


async def _bogus_exchange(flight: Flight, client_auth: ClientAuth) -> Diagnosis | None:
    """None when the provider refused the code alone; else what it refused."""
    opened = flight.opened
    assert opened.method.oauth2 is not None
    method = replace(opened.method, oauth2=replace(opened.method.oauth2, client_auth=client_auth))
    tried = replace(opened, method=method)
    grant = {
        "grant_type": "authorization_code",
        "code": f"preflight-{ids.secret_token()}",
        "redirect_uri": flight.callback,
    }
    if opened.method.oauth2.pkce:
        grant["code_verifier"] = ids.secret_token(48)
    try:
        await tokens.request_token(flight.context.http, tried, flight.scope, grant)
    except TokenRefused as e:
        if e.dead:
            return None
        return diagnosing.of_token_error(e, opened.connector, "token_exchange", method=method)
    except TokenNonsense as e:
        return diagnosing.of_token_error(e, opened.connector, "token_exchange", method=method)
    except HttpFailure as e:
        return diagnosing.of_failure(e, "preflight", None, {})
    return None


def _origin(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
