"""Run an action for its author: with a credential that was typed just now, straight to the provider, every exchange shown.

Nothing is stored. The request is made as it is for a linked account: the same authentication, signature, egress guard and
expressions; there is no log, no limit and no renewal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

import orjson

from mooring import errors
from mooring.accounts import credentials, tokens
from mooring.accounts.credentials import Secrets
from mooring.actions import engine
from mooring.actions.engine import Result
from mooring.actions.inputs import gather
from mooring.actions.s1.runner import Account
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.connect.linking import read_form
from mooring.connectors.actions import Action
from mooring.connectors.apply import inject
from mooring.connectors.definition import AuthMethod, Connector, Field, OAuth2
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from mooring.protocol.headers import inbound, outbound
from mooring.protocol.oauth2 import TokenNonsense, TokenRefused
from mooring.protocol.redact import redact_headers, redact_json, redact_text
from mooring.proxy import service
from mooring.proxy.reading import MAX_ANSWER, Whole, decode
from mooring.proxy.service import Call

DEADLINE: Final = 60.0  # seconds for one request
_TOKEN: Final = "access_token"


@dataclass(frozen=True, slots=True)
class Shown:
    """One exchange as it may be shown: no secret is in it."""

    method: str
    target: str  # path and query under the base URL
    url: str
    headers: list[tuple[str, str]]
    body: str
    status: int
    answer_headers: list[tuple[str, str]]
    answer: Any  # decoded


@dataclass(slots=True)
class Live:
    """A credential for the length of one command, and what was sent with it."""

    http: HttpClient
    connector: Connector
    method: AuthMethod
    scope: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    public: Mapping[str, str] = field(default_factory=dict)
    exchanges: list[Shown] = field(default_factory=list)

    async def run(self, action: Action, given: Mapping[str, Any], *, next: str | None = None) -> Result:
        """Run the action. Raises what a run through the hub raises; `exchanges` then holds what was sent until there."""
        arguments = gather(action, given, next=next)
        account = Account("workbench", "workbench", self.method.key, self.public)

        async def open() -> Mapping[str, Any]:
            return self.scope

        return await engine.run(self._exchange, self.connector, account, action, arguments, wait=0, open=open)

    async def _exchange(self, ask: Call) -> tuple[Whole, str]:
        injection = inject(self.method, self.scope)
        if ask.late is None:
            given, url = ask.headers, service.target_url(injection, ask)
            given = service.with_defaults(self.connector, self.scope, given)
            body = ask.body if isinstance(ask.body, bytes) else None
        else:
            given, injection, url, body = service.written(self.connector, self.scope, ask.late(self.scope, injection))
        if injection.body is not None and injection.body.goes_into(ask.method, body):
            kind = next((v.decode("latin-1") for n, v in given if n == b"content-type"), "")
            body, kind = injection.body.put(body or b"", kind)
            given = [*(item for item in given if item[0] != b"content-type"), (b"content-type", kind.encode())]
        headers = outbound(given, injection.headers)
        if injection.signature is not None:
            headers = injection.signature.sign(ask.method, url, headers, body or b"")
        request = OutboundRequest(ask.method, url, (), body, headers, injection.identity)
        try:
            answer = await self.http.send(request, deadline=DEADLINE, max_bytes=MAX_ANSWER)
        except HttpFailure as e:
            raise service.refusal(self.connector.title, e) from None
        except ValueError as e:
            raise errors.BadRequest(str(e), code="InvalidHeaderError") from None
        answered: dict[str, str] = {}
        for name, value in inbound([(n.lower().encode(), v.encode()) for n, v in answer.headers]):
            answered[name.decode()] = self._masked(value.decode("utf-8", "replace"))
        data = decode(answer.body, answered.get("content-type", ""))
        shown = service.masked(url, self.secrets)
        whole = Whole(answer.status, answered, answer.body, data, shown)
        self.exchanges.append(
            Shown(
                method=ask.method,
                target=shown.removeprefix(service.masked(injection.base_url, self.secrets)),
                url=shown,
                headers=redact_headers(
                    (n.decode("latin-1"), self._masked(v.decode("utf-8", "replace"))) for n, v in headers
                ),
                body=self._masked((body or b"").decode("utf-8", "replace")),
                status=answer.status,
                answer_headers=redact_headers(answered.items()),
                answer=self._harmless(data),
            )
        )
        return whole, injection.base_url

    def _masked(self, text: str) -> str:
        return redact_text(text, self.secrets)

    def _harmless(self, data: Any) -> Any:
        if isinstance(data, dict | list):
            return redact_json(orjson.loads(self._masked(orjson.dumps(data).decode())))
        return self._masked(data) if isinstance(data, str) else None


def asked_of(method: AuthMethod) -> tuple[Field, ...]:
    """What a person has to type for this method: the operator's part, their own, a token where a consent page gives it."""
    oauth2 = method.oauth2
    if oauth2 is None or oauth2.machine:
        return (*method.app_fields, *method.fields)
    needed = _needed(method)
    own = [f for f in (*method.app_fields, *method.fields) if f.key in needed]
    kept = [Field(name, name.replace("_", " ")) for name in (*oauth2.keep, *oauth2.callback_keep) if name in needed]
    return (*own, *kept, Field(_TOKEN, "Access token", secret=True, help="One that the provider gave you."))


def _needed(method: AuthMethod) -> frozenset[str]:
    templates = [method.base_url, *method.headers.values(), *method.query.values(), *(method.basic or ())]
    return frozenset().union(*(t.names for t in templates))


async def connect(http: HttpClient, connector: Connector, method: AuthMethod, values: Mapping[str, str]) -> Live:
    """Check the values and fetch a token where the method needs one.

    Raises Unprocessable with every fault of the values, or with the provider's refusal of the token request.
    """
    known = {f.key: f for f in asked_of(method)}
    if unknown := [key for key in values if key not in known]:
        raise errors.Unprocessable(
            f"{connector.title} does not ask for {unknown[0]!r}", hint=f"It asks for: {', '.join(known)}."
        )
    app = {f.key: f.default for f in method.app_fields if f.default is not None}
    app |= {f.key: str(values[f.key]) for f in method.app_fields if values.get(f.key)}
    typed = {f.key: values[f.key] for f in method.fields if f.key in values}
    oauth2 = method.oauth2
    if oauth2 is not None and not oauth2.machine:
        if not values.get(_TOKEN):
            raise errors.Unprocessable("an access token is needed: this method has a consent page")
        extra = {k: str(v) for k, v in values.items() if k not in app and k not in typed}
        scope: dict[str, Any] = {**app, **typed, **extra}
    else:
        form = read_form(method, typed)
        scope = {**app, **form.public, **form.secret}
        if oauth2 is not None:
            scope |= await _token(http, connector, method, oauth2, app, form.secret, scope)
    secret = {f.key for f in (*method.app_fields, *method.fields) if f.secret} | {_TOKEN, "id_token"}
    hidden = tuple(str(scope[key]) for key in secret if scope.get(key))
    public = {key: str(value) for key, value in scope.items() if key not in secret}
    return Live(http, connector, method, scope, hidden, public)


async def _token(
    http: HttpClient,
    connector: Connector,
    method: AuthMethod,
    oauth2: OAuth2,
    app: Mapping[str, str],
    secret: Mapping[str, str],
    scope: Mapping[str, Any],
) -> Mapping[str, Any]:
    row = cast("AuthConfig", SimpleNamespace(setup={}))  # stored nowhere; of a row only the scopes are asked
    opened = OpenConfig(row, connector, method, dict(app))
    try:
        answer = await tokens.request_token(http, opened, scope, tokens.machine_params(oauth2, opened, scope))
        answer = await tokens.logged_in(http, opened, scope, answer)
    except (TokenRefused, TokenNonsense) as e:
        raise errors.Unprocessable(f"{connector.title} gave no token: {e}") from None
    except HttpFailure as e:
        raise service.refusal(connector.title, e) from None
    return credentials.with_token(Secrets(fields=secret), oauth2, answer).scope()
