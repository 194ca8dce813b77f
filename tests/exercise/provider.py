"""Any provider, played from a connector's definition. It writes down every request that it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from mooring.connectors.definition import AuthMethod, Connector
from mooring.protocol import signatures

WRONG = "wrong"  # stands in every value of a wrong credential
QUIET = {"host", "user-agent", "content-length", "connection", "accept-encoding", "traceparent"}


@dataclass
class Played:
    """What is played now: a method with the values that people typed, and what was asked for so far."""

    connector: Connector
    method: AuthMethod
    scope: dict[str, str]
    kept: dict[str, str]
    seen: list[tuple[str, str]] = field(default_factory=list)  # role and request, as it is written down
    tokens: int = 0
    expire_once: bool = False
    challenge: str | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def access_token(self) -> str:
        return f"access-token-{self.tokens}"


class Provider:
    """The server. `played` is set for each method in turn."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.played: Played | None = None

    def target(self, template: Any) -> str | None:
        """The path of an address of the definition, with what people typed in it."""
        assert self.played is not None
        if template is None:
            return None
        url = template.render({**self.played.scope, **self.played.kept, "access_token": self.played.access_token})
        return urlsplit(url if url.startswith("http") else self.base + url).path

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """The status and the JSON (or text) of an answer."""
        played = self.played
        if played is None:
            return 404, {}
        path, _, query = target.partition("?")
        oauth2 = played.method.oauth2
        if oauth2 is not None:
            login = oauth2.login
            if login is not None and method == login.method and path == self.login_path():
                return self._login(method, path, query, headers, body)
            if method == "POST" and path in {self.target(oauth2.token_url), self.target(oauth2.refresh_url)}:
                return self._token(path, headers, body)
            if oauth2.then is not None and path == self.target(oauth2.then.request.url):
                self.note("then", method, path, query, headers, body)
                if played.access_token not in unquote(query) + body.decode() + json.dumps(headers):
                    return 401, {"error": "another token"}
                out: dict[str, Any] = {}
                for name, where in oauth2.then.keep.items():
                    put(out, where, self.kept_now(name))
                return 200, out
            if oauth2.revoke_url is not None and path == self.target(oauth2.revoke_url):
                self.note("revoke", method, path, query, headers, body)
                return 200, {}
        return self._call(method, path, query, headers, body)

    def kept_now(self, name: str) -> str:
        """A value of the login after the token: a secret one is another each time."""
        assert self.played is not None and self.played.method.oauth2 is not None
        fixed = name in self.played.method.oauth2.keep_patterns
        return self.played.kept[name] + ("" if fixed else f"-of-{self.played.access_token}")

    def login_path(self) -> str:
        assert self.played is not None and self.played.method.oauth2 is not None
        oauth2 = self.played.method.oauth2
        assert oauth2.login is not None
        url = oauth2.login.url.render(self.played.scope)
        if not url.startswith("http"):
            url = self.played.method.base_url.render({**self.played.scope, **self.played.kept}).rstrip("/") + url
        return urlsplit(url).path

    def _login(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        played = self.played
        assert played is not None and played.method.oauth2 is not None
        self.note("login", method, path, query, headers, body)
        if WRONG in unquote(query) + body.decode("utf-8", "replace") + json.dumps(headers):
            return 401, {"error": "wrong credentials"}
        played.tokens += 1
        if not played.method.oauth2.token_path[0]:
            return 200, played.access_token
        return 200, self._answered({played.method.oauth2.token_path[0]: played.access_token})

    def _token(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        played = self.played
        assert played is not None and played.method.oauth2 is not None
        oauth2 = played.method.oauth2
        given = (
            json.loads(body) if oauth2.token_body == "json" else dict(parse_qsl(body.decode(), keep_blank_values=True))
        )
        grant = given.get("grant_type")
        self.note("refresh" if grant == "refresh_token" or played.tokens else "token", "POST", path, "", headers, body)
        client = _basic(headers)
        if WRONG in json.dumps(given) + json.dumps(client):
            return 400 if grant == "authorization_code" else 401, {
                "error": "invalid_grant" if grant == "authorization_code" else "invalid_client"
            }
        if oauth2.client_auth in {"basic", "basic_raw"} and client is None and oauth2.assertion is None:
            played.faults.append("the client does not prove itself by Basic")
        if oauth2.client_auth == "post" and (
            client is not None or (oauth2.assertion is None and "client_secret" not in given)
        ):
            played.faults.append("the client does not prove itself in the body")
        if grant == "authorization_code" and played.challenge is not None:
            digest = hashlib.sha256(str(given.get("code_verifier", "")).encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != played.challenge:
                played.faults.append("the code verifier does not fit its challenge")
        played.tokens += 1
        answer = {
            oauth2.token_path[0]: played.access_token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": "an-id-token",
        }
        if oauth2.grant == "authorization_code":
            answer["refresh_token"] = f"refresh-token-{played.tokens}"
        return 200, self._answered(answer)

    def _answered(self, values: dict[str, Any]) -> dict[str, Any]:
        played = self.played
        assert played is not None and played.method.oauth2 is not None
        out: dict[str, Any] = {}
        for path, value in values.items():
            put(out, path, value)
        for name, path in played.method.oauth2.keep.items():
            put(out, path, played.kept[name])
        return out

    def _call(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        played = self.played
        assert played is not None
        role = "call" if path.endswith("/called/by/a/caller") else "test"
        self.note(role, method, path, query, headers, body)
        text = (
            unquote(path + "?" + query) + body.decode("utf-8", "replace") + json.dumps(headers) + str(_basic(headers))
        )
        if WRONG in text or not self._is_signed(method, path + ("?" + query if query else ""), headers, body):
            return 401, {"error": "wrong"}
        if played.method.oauth2 is not None and "access-token-" in text and played.access_token not in text:
            return 401, {"error": "an old token"}
        if role == "call" and played.expire_once:
            played.expire_once = False
            return 401, {"error": "the token has ended"}
        test = played.method.test
        answer: dict[str, Any] = {}
        for label, where in (("id-1", test and test.identity), ("label-1", test and test.identity_label)):
            if where:
                put(answer, where, label)
        return (test.ok[0] if test is not None and test.ok and role == "test" else 200), answer

    def _is_signed(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bool:
        """Whether the signature is that of the right secrets, at the moment that the request names."""
        assert self.played is not None
        signature = self.played.method.signature
        if signature is None:
            return True
        values = {name: str(t.value(self.played.scope) or "") for name, t in signature.values.items()}
        given = headers.get("authorization", "")
        now, nonce = datetime.now(UTC), None
        if signature.algorithm == "aws4":
            now = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        elif signature.algorithm == "oauth1":
            own = dict(re.findall(r'(\w+)="([^"]*)"', given))
            now, nonce = datetime.fromtimestamp(int(own["oauth_timestamp"]), UTC), unquote(own["oauth_nonce"])
        else:
            now = parsedate_to_datetime(headers["date"])
        sent = [
            (n.encode(), v.encode())
            for n, v in headers.items()
            if n not in QUIET | {"date"} and not n.startswith("x-amz")
        ]
        again = signatures.signed(signature.algorithm, values, method, self.base + target, sent, body, now, nonce)
        return dict(again)[b"authorization"].decode() == given

    def note(self, role: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        """Write a request down, without what differs each time."""
        assert self.played is not None
        shown = {name: value for name, value in sorted(headers.items()) if name not in QUIET}
        pair = _basic(headers)
        if pair is not None:
            shown["authorization"] = f"Basic of {pair}"
        if self.played.method.signature is not None:
            moving = (
                r"(Signature=|oauth_signature=|oauth_nonce=|oauth_timestamp=|AKIA\w*/|example-access_key_id/)[^/,; ]+"
            )
            shown["authorization"] = re.sub(
                moving, r"\1…", re.sub(r"(Basic of [^:]+):\w+", r"\1:…", shown["authorization"])
            )
            shown |= {name: "…" for name in ("date", "x-amz-date") if name in shown}
        lines = [f"{method} {path.lstrip('/')}" + (f" ? {_sorted(query)}" if query else "")]
        lines += [f"{name}: {value}" for name, value in shown.items()]
        if body:
            text = body.decode("utf-8", "replace")
            form = shown.get("content-type", "").startswith("application/x-www-form-urlencoded")
            lines.append(_sorted(text) if form else text)
        self.played.seen.append((role, " | ".join(lines)))


def put(out: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a dotted path; a number is an index."""
    here: Any = out
    parts = path.split(".")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        fresh: Any = value if following is None else [] if following.isdigit() else {}
        if isinstance(here, list):
            while len(here) <= int(part):
                here.append(fresh)
            here = here[int(part)]
            continue
        if following is None:
            here[part] = value
        else:
            here = here.setdefault(part, fresh)


def _sorted(query: str) -> str:
    return urlencode(sorted(parse_qsl(query, keep_blank_values=True)))


def _basic(headers: dict[str, str]) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme != "Basic":
        return None
    try:
        return base64.b64decode(value).decode()
    except ValueError:
        return None


@contextmanager
def provider_on(port: int) -> Iterator[Provider]:
    """Serve on a port of this machine."""
    provider = Provider(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = provider.handle(self.command, self.path, headers, body)
            raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
