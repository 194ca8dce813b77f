"""OAuth 2.0 messages as pure functions: authorization URL, token request, token answer (RFC 6749, 7636, 7009, 9207)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from mooring.protocol.exchange import Exchange
from mooring.protocol.redact import clean_line

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

MAX_EXPIRES_IN = 10 * 365 * 86400  # beyond ten years a lifetime is a mistake or "never"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Nonsense = Literal["unavailable", "redirect", "html", "not_json", "no_token", "token_type"]

_PRINTABLE = re.compile(r"[\x20-\x7e]+")  # RFC 6749 appendix A.12; anything else can't stand in a header
_DEAD_GRANT = frozenset({"invalid_grant"})


class TokenRefused(Exception):
    """The token endpoint answered with an error (RFC 6749 §5.2). `dead` is true only when the grant itself is over."""

    exchange: Exchange | None = None  # who sent the request notes it here

    def __init__(self, error: str, description: str | None, status: int) -> None:
        super().__init__(f"{error}: {description}" if description else error)
        self.error = error
        self.description = description
        self.status = status
        self.dead = error in _DEAD_GRANT


class TokenNonsense(Exception):
    """The answer is neither a token nor an OAuth error. `transient` is true when trying again makes sense."""

    exchange: Exchange | None = None  # who sent the request notes it here

    def __init__(
        self, reason: str, status: int, *, transient: bool, kind: Nonsense, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind: Nonsense = kind
        self.reason = reason
        self.status = status
        self.transient = transient
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A parsed token answer. Times are seconds from the moment of the answer; None means the provider did not say."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: int | None
    refresh_expires_in: int | None
    scope: tuple[str, ...] | None
    raw: Mapping[str, Any] = field(repr=False)
    login: Mapping[str, Any] | None = field(default=None, repr=False)  # what the login after the token (`then`) left


def pkce_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def add_query(url: str, params: Sequence[tuple[str, str]]) -> str:
    """The URL with parameters added to its query (RFC 6749 §3.1: what is there stays)."""
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, urlencode(params, quote_via=quote)]))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def authorization_request(
    *,
    client_id: str,
    redirect_uri: str,
    state: str,
    scopes: Sequence[str],
    scope_separator: str,
    challenge: str | None,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """The parameters that start the authorization code flow (RFC 6749 §4.1.1). `extra` can't replace what we set."""
    params = {"response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "state": state}
    if scopes:
        params["scope"] = scope_separator.join(scopes)
    if challenge is not None:
        params |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    return {**extra, **params}


def parse_pushed_answer(status: int, content_type: str | None, body: bytes, *, retry_after: str | None = None) -> str:
    """The `request_uri` of an answer to a pushed authorization request (RFC 9126 §2.2).

    Raises TokenRefused and TokenNonsense as `parse_token_answer` does.
    """
    if not 200 <= status < 300:
        parse_token_answer(status, content_type, body, retry_after=retry_after)
    found = None
    with contextlib.suppress(ValueError):
        found = dig(orjson.loads(body), "request_uri")
    if not isinstance(found, str) or not found:
        raise TokenNonsense(
            "the answer to the pushed request has no request_uri", status, transient=False, kind="no_token"
        )
    return found


def basic_credentials(client_id: str, client_secret: str, *, form_encode: bool) -> str:
    """The Authorization value of client_secret_basic. RFC 6749 §2.3.1 form-encodes both parts; some providers want raw.

    A space becomes %20, which every server decodes; a plus is left as it is by those that only undo percents.
    """
    if form_encode:
        client_id, client_secret = quote(client_id, safe=""), quote(client_secret, safe="")
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


def client_assertion(
    *, client_id: str, audience: str, private_key: str, algorithm: str, jti: str, now: int, key_id: str | None = None
) -> str:
    """An assertion of private_key_jwt or client_secret_jwt (RFC 7523 §3): one audience, unique jti, a life of 60 s (O17).

    For an algorithm such as HS256 the key is the client secret. See `signed`.
    """
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "jti": jti, "iat": now, "exp": now + 60}
    return signed(claims, private_key, algorithm, key_id)


def signed(claims: Mapping[str, Any], private_key: str, algorithm: str, key_id: str | None = None) -> str:
    """A JWT of these claims.

    `private_key` is PEM, or a JWK as JSON whose `kid` counts when `key_id` is not given. Raises ValueError, which holds
    nothing of the key, when it is not a private key for the algorithm.
    """
    # Few connectors sign assertions; the others need not pay for the library's memory.
    from joserfc import jwt
    from joserfc.errors import JoseError, SecurityWarning

    try:
        key = _signing_key(private_key, algorithm)
        key_id = key_id or key.kid
        header = {"alg": algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id else {})
        with warnings.catch_warnings():
            # RFC 9864 renames EdDSA; servers still know it by this name.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(header, dict(claims), key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise ValueError(f"the private key is not a private key for {algorithm}, in PEM or as a JWK") from None


def _signing_key(private_key: str, algorithm: str) -> ECKey | OKPKey | RSAKey | OctKey:
    from joserfc.jwk import OctKey, import_key

    if algorithm.startswith("HS"):
        if not private_key:
            raise ValueError("there is no secret")
        return OctKey.import_key(private_key)
    text = private_key.strip()
    if "\n" not in text:
        text = text.replace("\\n", "\n")  # copied out of a JSON file, as Google hands keys out
    material = orjson.loads(text) if text.startswith("{") else text
    if algorithm.startswith("ES"):
        return import_key(material, "EC")
    if algorithm == "EdDSA":
        return import_key(material, "OKP")
    return import_key(material, "RSA")


def token_request(
    params: Mapping[str, str],
    *,
    client_id: str | None,
    client_secret: str | None,
    client_auth: str,
    body_format: str,
    headers: Mapping[str, str],
    assertion: str | None = None,
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a token request. The client proves itself in the header or in the body, never in both."""
    fields = dict(params)
    out = {"accept": "application/json"}
    if client_auth in {"basic", "basic_raw"}:
        out["authorization"] = basic_credentials(
            client_id or "", client_secret or "", form_encode=client_auth == "basic"
        )
    elif client_id is not None:
        fields["client_id"] = client_id
        if client_auth == "post":
            fields["client_secret"] = client_secret or ""
        elif client_auth in {"private_key_jwt", "client_secret_jwt"}:
            fields |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion or ""}
    if body_format == "json":
        out["content-type"] = "application/json"
        body = orjson.dumps(fields)
    else:
        out["content-type"] = "application/x-www-form-urlencoded"
        body = urlencode(fields).encode()
    out |= {k.lower(): v for k, v in headers.items()}
    return list(out.items()), body


def dig(value: Any, path: str) -> Any:
    """The value at a dotted path of a JSON document, or None. A number indexes a list.

    A key that holds dots itself, such as `@odata.nextLink`, is found as the rest of the path.
    """
    while path:
        if isinstance(value, Mapping):
            if path in value:
                return value[path]
            part, _, path = path.partition(".")
            value = value.get(part)
        elif isinstance(value, list):
            part, _, path = path.partition(".")
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            return None
    return value


def parse_token_answer(
    status: int,
    content_type: str | None,
    body: bytes,
    *,
    token_format: str = "auto",
    token_path: Sequence[str] = ("access_token",),
    refresh_token_path: Sequence[str] = ("refresh_token",),
    token_types: Iterable[str] = (),
    retry_after: str | None = None,
) -> TokenAnswer:
    """Read a token answer. Raises TokenRefused or TokenNonsense.

    Tolerates what providers really send (rule O13): form-encoded bodies, `expires_in` as text, missing, zero, negative or
    huge, errors with status 200, a missing `token_type`. A `token_type` other than Bearer is refused (RFC 6749 §7.1)
    unless it is one of `token_types`. A token is the first text that one of its dotted paths leads to.
    What an overloaded or broken server says of the grant is not believed, whatever its body holds (rule O15).
    """
    require_served(status, retry_after, "the token endpoint")
    data = _decode(content_type, body, token_format)
    if isinstance(data, Mapping):
        error = data.get("error")
        description = data.get("error_description") or data.get("message")
        if isinstance(error, Mapping):  # {"error": {"code"|"type"|"status": …, "message": …}}
            description = error.get("message")
            error = next((error[k] for k in ("code", "type", "status") if isinstance(error.get(k), str)), "error")
        if isinstance(error, str) and error and _first(data, token_path) is None:
            raise TokenRefused(
                clean_line(error, 80), clean_line(description, 300) if isinstance(description, str) else None, status
            )
    if not isinstance(data, Mapping):
        page = body.lstrip()[:1] == b"<"
        raise TokenNonsense(
            f"the token endpoint answered {status} with {'HTML' if page else 'no JSON'} instead of a token",
            status,
            transient=status < 300,
            kind="html" if page else "not_json",
        )
    if status >= 400:
        raise TokenRefused("error", clean_line(str(data.get("message") or f"status {status}"), 300), status)
    token = _first(data, token_path)
    if token is None or not _PRINTABLE.fullmatch(token):
        raise TokenNonsense("the token answer holds no access token", status, transient=False, kind="no_token")
    token_type = data.get("token_type")
    accepted = {"bearer", "user", "bot", "", *(kind.lower() for kind in token_types)}
    if isinstance(token_type, str) and token_type.lower() not in accepted:
        raise TokenNonsense(
            f"the token type {clean_line(token_type, 40)!r} is not supported",
            status,
            transient=False,
            kind="token_type",
        )
    return TokenAnswer(
        access_token=token,
        refresh_token=_first(data, refresh_token_path),
        expires_in=lifetime(data.get("expires_in", data.get("expires"))),
        refresh_expires_in=lifetime(
            data.get("refresh_token_expires_in", data.get("refresh_expires_in", data.get("x_refresh_token_expires_in")))
        ),
        scope=_scope(data.get("scope")),
        raw=data,
    )


def _first(data: Any, paths: Iterable[str]) -> str | None:
    found = (dig(data, path) for path in paths)
    return next((value for value in found if isinstance(value, str) and value), None)


def require_served(status: int, retry_after: str | None, who: str) -> None:
    """Raise TokenNonsense for what says nothing of the credential: overload, faults of the server, redirects."""
    if status == 429 or status >= 500:
        raise TokenNonsense(
            f"{who} answered {status}",
            status,
            transient=True,
            kind="unavailable",
            retry_after=parse_retry_after(retry_after),
        )
    if 300 <= status < 400:
        # Never followed: a 307 would send the secret to wherever it points (RFC 9700 §4.12).
        raise TokenNonsense(f"{who} answered with a redirect ({status})", status, transient=False, kind="redirect")


def _decode(content_type: str | None, body: bytes, token_format: str) -> Any:
    kind = (content_type or "").split(";")[0].strip().lower()
    if token_format != "form":
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            if token_format == "json":
                return None
    if token_format == "form" or kind in {"application/x-www-form-urlencoded", "text/plain"}:
        try:
            pairs = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=100)
        except ValueError:
            return None
        return dict(pairs)
    return None


def lifetime(value: Any) -> int | None:
    """Seconds, or None when the provider says nothing usable. Text and fractions are read.

    Zero and less count as nothing said: they stand for "never" as often as for "at once", and a token that has ended is
    noticed by its 401, while believing it would cost a refresh for every call.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return int(seconds) if 1 <= seconds <= MAX_EXPIRES_IN else None


def _scope(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return tuple(dict.fromkeys(value.replace(",", " ").split()))
    if isinstance(value, list) and all(isinstance(s, str) for s in value):
        return tuple(dict.fromkeys(value))
    return None


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After value in either form (RFC 9110 §10.2.3), capped at a day; None when it can't be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # a year, hour or zone that no machine word holds
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), 86400.0) if math.isfinite(seconds) else None


def missing_scopes(asked: Sequence[str], granted: Sequence[str] | None) -> tuple[str, ...]:
    """Asked scopes that were not granted. No answer means all were granted (RFC 6749 §5.1)."""
    if granted is None:
        return ()
    return tuple(s for s in asked if s not in set(granted) and s not in {"offline_access", "offline", "refresh_token"})
