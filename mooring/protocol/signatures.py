"""Sign requests: AWS Signature Version 4, OAuth 1.0a (RFC 5849), and an HMAC of the request in a header or HTTP Basic. Pure.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, RFC 5849 §3.4, for
`hmac_basic` https://duo.com/docs/adminapi#authentication, and for `hmac` the npm package `@stackone/transport` 2.35.0,
whose `.s1.yaml` files mean it by `signing: {strategy: hmac}`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from mooring.protocol.headers import Header

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
FORM: Final = b"application/x-www-form-urlencoded"
_AWS_HEADERS: Final = frozenset({"content-type", "content-md5", "range", "date"})
_HASHES: Final = {"HMAC-SHA1": "sha1", "HMAC-SHA256": "sha256", "HMAC-SHA512": "sha512"}


def needs_body(algorithm: str, values: Mapping[str, str], headers: Iterable[Header]) -> bool:
    """Whether a signature covers the body, so that a stream has to be read before it is sent."""
    if algorithm == "aws4":
        return values.get("service") != "s3"
    if algorithm == "hmac" and values.get("body") != "parameters":
        return True
    return _holds_form(headers)


def signed(
    algorithm: str,
    values: Mapping[str, str],
    method: str,
    url: str,
    headers: Sequence[Header],
    body: bytes | None,
    now: datetime,
    nonce: str | None = None,
) -> list[Header]:
    """The headers of the request with its signature. `body` is None for a stream, which is not signed.

    `values` are those of the connector's `sign` block. `url` is what is sent, byte for byte; `now` is in UTC. OAuth 1.0a
    makes a nonce of its own where none is given.
    """
    if algorithm == "aws4":
        return _aws4(values, method, url, headers, body, now)
    if algorithm == "oauth1":
        return _oauth1(values, method, url, headers, body, now, nonce)
    if algorithm == "hmac":
        return _hmac(values, method, url, headers, body, now)
    return _hmac_basic(values, method, url, headers, body, now)


def _aws4(
    values: Mapping[str, str], method: str, url: str, headers: Sequence[Header], body: bytes | None, now: datetime
) -> list[Header]:
    parts = urlsplit(url)
    service, region = values["service"], values["region"]
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    own: dict[str, str] = {"x-amz-date": moment}
    digest = UNSIGNED if body is None else hashlib.sha256(body).hexdigest()
    if service == "s3":
        own["x-amz-content-sha256"] = digest
    if values.get("session_token"):
        own["x-amz-security-token"] = values["session_token"]
    kept = [item for item in headers if item[0].decode() not in {*own, "authorization"}]
    covered = {"host": parts.netloc, **own}
    for raw_name, raw_value in kept:
        name = raw_name.decode()
        if name in _AWS_HEADERS or name.startswith("x-amz-"):
            covered[name] = " ".join(raw_value.decode("latin-1").split())
    names = ";".join(sorted(covered))
    # Amazon S3 takes the path as it is sent; every other service encodes it once more.
    path = parts.path or "/"
    path = path if service == "s3" else quote(path, safe="/-_.~")
    pairs = sorted((_encoded(n), _encoded(v)) for n, v in parse_qsl(parts.query, keep_blank_values=True))
    canonical = "\n".join(
        [
            method,
            path,
            "&".join(f"{n}={v}" for n, v in pairs),
            *(f"{name}:{covered[name]}" for name in sorted(covered)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + values["secret_key"]).encode()
    for part in (moment[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{values['access_key']}/{scope}"
    own["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return [*kept, *((name.encode(), value.encode()) for name, value in own.items())]


def _oauth1(
    values: Mapping[str, str],
    method: str,
    url: str,
    headers: Sequence[Header],
    body: bytes | None,
    now: datetime,
    nonce: str | None,
) -> list[Header]:
    parts = urlsplit(url)
    algorithm = values.get("signature_method") or "HMAC-SHA1"
    own = {
        "oauth_consumer_key": values["consumer_key"],
        "oauth_nonce": nonce or secrets.token_urlsafe(16),
        "oauth_signature_method": algorithm,
        "oauth_timestamp": str(int(now.timestamp())),
        "oauth_version": "1.0",
    }
    if values.get("token"):
        own["oauth_token"] = values["token"]
    pairs = sorted((_encoded(n), _encoded(v)) for n, v in [*own.items(), *_parameters(url, headers, body)])
    address = f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path or '/'}"
    base = "&".join([method.upper(), _encoded(address), _encoded("&".join(f"{n}={v}" for n, v in pairs))])
    key = f"{_encoded(values['consumer_secret'])}&{_encoded(values.get('token_secret') or '')}".encode()
    own["oauth_signature"] = base64.b64encode(hmac.digest(key, base.encode(), _HASHES[algorithm])).decode()
    shown = ", ".join(f'{name}="{_encoded(value)}"' for name, value in sorted(own.items()))
    realm = f'realm="{values["realm"]}", ' if values.get("realm") else ""
    kept = [item for item in headers if item[0] != b"authorization"]
    return [*kept, (b"authorization", f"OAuth {realm}{shown}".encode())]


def _hmac_basic(
    values: Mapping[str, str], method: str, url: str, headers: Sequence[Header], body: bytes | None, now: datetime
) -> list[Header]:
    parts = urlsplit(url)
    date = format_datetime(now)
    pairs = "&".join(
        f"{n}={v}" for n, v in sorted((_encoded(n), _encoded(v)) for n, v in _parameters(url, headers, body))
    )
    to_sign = "\n".join([date, method.upper(), parts.netloc.lower(), parts.path or "/", pairs])
    algorithm = _HASHES[values.get("signature_method") or "HMAC-SHA1"]
    signature = hmac.digest(values["secret"].encode(), to_sign.encode(), algorithm).hex()
    pair = base64.b64encode(f"{values['username']}:{signature}".encode())
    kept = [item for item in headers if item[0] not in {b"authorization", b"date"}]
    return [*kept, (b"date", date.encode()), (b"authorization", b"Basic " + pair)]


def _hmac(
    values: Mapping[str, str], method: str, url: str, headers: Sequence[Header], body: bytes | None, now: datetime
) -> list[Header]:
    """The signature, in lower-case hexadecimal digits, of lines: date, method, host if wanted, path, query, body's hash."""
    parts = urlsplit(url)
    moment = now.astimezone(UTC).replace(tzinfo=None)
    rfc2822 = values.get("date") == "rfc2822"
    date = format_datetime(moment) if rfc2822 else moment.isoformat(timespec="milliseconds") + "Z"
    hashed = values.get("body") != "parameters"
    pairs = sorted(_parameters(url, () if hashed else headers, body))
    lines = [date, method.upper()]
    if values.get("host") == "true":
        lines.append((parts.hostname or "").lower())
    lines += [parts.path or "/", "&".join(f"{_encoded(n)}={_encoded(v)}" for n, v in pairs)]
    if hashed:
        lines.append(hashlib.sha256(body or b"").hexdigest())
    algorithm = values.get("signature_method") or "HMAC-SHA256"
    signature = hmac.digest(values["secret"].encode(), "\n".join(lines).encode(), _HASHES[algorithm]).hex()
    if values.get("username"):
        pair = base64.b64encode(f"{values['username']}:{signature}".encode()).decode()
        own = {"authorization": f"Basic {pair}", "date": date}
    else:
        prefix = values.get("prefix", f"hmac-{_HASHES[algorithm]}")
        own = {(values.get("header") or "X-Signature").lower(): f"{prefix} {signature}".strip(), "x-timestamp": date}
    kept = [item for item in headers if item[0].decode() not in own]
    return [*kept, *((name.encode(), value.encode()) for name, value in own.items())]


def _parameters(url: str, headers: Iterable[Header], body: bytes | None) -> list[tuple[str, str]]:
    """The parameters that a signature covers: of the query, and of a body that is a form (RFC 5849 §3.4.1.3)."""
    found = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    if body and _holds_form(headers):
        found += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return found


def _holds_form(headers: Iterable[Header]) -> bool:
    return any(name == b"content-type" and value.startswith(FORM) for name, value in headers)


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
