"""One call through one account: status, fresh credential, injection, the answer, and one replay after a 401."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from mooring import errors
from mooring.accounts import health
from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.connectors.apply import InBody, Injection, Signer, default_headers, inject
from mooring.connectors.definition import Connector
from mooring.diagnosis.rules import of_failure
from mooring.diagnosis.table import CAUSES
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.http import HttpFailure, OutboundRequest, StreamedResponse
from mooring.kit.limits import Gate
from mooring.logs.writer import Entry
from mooring.protocol.budgets import pause_of
from mooring.protocol.headers import Header, outbound, raw
from mooring.protocol.redact import REDACTED, SecretScanner, redact_url
from mooring.protocol.template import Template, Unresolved
from mooring.protocol.urls import join_path, origin_of, validate_base_url
from mooring.proxy import retries

# Of one call up to the head of its answer, waiting and repetitions included (contract §1); longer where a connector's
# `timeouts` say so.
LIFE_SECONDS: Final = 60.0
QUEUE_SECONDS: Final = 10.0  # that a call waits for its turn, unless `Prefer: wait` says otherwise
MOST_SIGNED: Final = 16 << 20  # bytes of a body that is read in order to be signed
RETRY_AFTER: Final = "5"  # seconds; what a caller is told when the provider can't be reached
MASK_MINIMUM: Final = 8  # characters; masking shorter secrets would spoil innocent text
REFRESH_PAUSE: Final = 60.0  # after a refresh that did not cure a 401

_NO_ANSWER: Final = frozenset({"dns", "refused", "unreachable", "timeout", "reset", "tls"})
FORBIDDEN_METHODS: Final = frozenset({"TRACE", "CONNECT", "TRACK"})
ALLOW: Final = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"  # RFC 9110 §15.5.6 wants a list; others pass as well
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Late:
    """A request that is written when the credential is open: a whole address, its query, headers, body, injection."""

    url: str = field(repr=False)
    query: str = field(repr=False)
    headers: Sequence[Header] = field(repr=False)
    body: bytes | None = field(repr=False)
    injection: Injection


@dataclass(slots=True)
class Call:
    """What the caller wants: method, raw path under the base URL, raw query, headers (lower-case names), body.

    A body that is `bytes` can be sent again after a 401; a stream can't, and `length` is what was announced of it. `url`
    replaces the base URL, within its origin. `late` writes everything but the method, each time that the call is sent, for
    connectors whose own requests hold parts of the credential.
    """

    method: str
    path: str
    query: str
    headers: Sequence[Header]
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    url: str | None = None
    length: int | None = None
    base: Template | None = None
    """Replaces the base URL, wherever it lies: from the connector's file, never from a caller."""
    wait: float = QUEUE_SECONDS  # for a place inside the provider's rate limit; 0 also turns repetitions off
    late: Callable[[Mapping[str, Any], Injection], Late] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Answer:
    """The provider's answer, and the scanner that masks an echoed credential in it (rule P8)."""

    response: StreamedResponse
    scanner: SecretScanner | None
    url: str  # redacted
    connector: Connector
    gate: Gate | None
    origin: str
    generation: int  # of the credential that was sent

    async def aclose(self) -> None:
        """Let go of the connection and of the place inside the provider's limit."""
        gate, self.gate = self.gate, None
        try:
            await self.response.aclose()
        finally:
            if gate is not None:
                gate.leave()


class UncuredAccounts:
    """Accounts whose 401 a refresh did not cure: another refresh would only spend tokens. Per process, bounded."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}

    def blocked(self, serving: Serving) -> bool:
        """Whether a refresh was tried in vain a moment ago, and the account has the credential of then."""
        until = self._until.get((serving.id, serving.generation))
        return until is not None and until > time.monotonic()

    def note(self, serving: Serving) -> None:
        """Remember that the refresh that gave this credential did not help."""
        if len(self._until) > 10_000:
            self._until.clear()
        self._until[serving.id, serving.generation] = time.monotonic() + REFRESH_PAUSE


_uncured = UncuredAccounts()


def require_passable(method: str) -> None:
    """Refuse the methods that echo a request or open a tunnel (rule P8)."""
    if method in FORBIDDEN_METHODS:
        raise errors.MethodNotAllowed(f"{method} is not passed on", headers={"allow": ALLOW})


async def call(context: Context, project: ProjectId, account_id: str, ask: Call, entry: Entry) -> Answer:
    """Make the call. Fills the log entry as it goes.

    Raises NotFound, AccountInactive, AccountExpiredCredentials before anything is sent; BadRequest for a path that leaves
    the base URL; ProviderError, EgressBlocked and RequestTooSlow when the provider can't be reached.
    """
    require_passable(ask.method)
    begun = time.perf_counter()
    serving = await context.accounts.get(project, account_id)
    end = begun + max(LIFE_SECONDS, serving.connector.first_byte_seconds)
    entry.account_id, entry.provider = serving.id, serving.connector.key
    entry.origin_owner_id = serving.origin_owner_id
    serving.require_serving()
    if clock.timestamp() >= serving.good_until:
        serving = await context.refresher.fresh(serving)
    answer = await _send(context, serving, ask, entry, end)
    if answer.response.status < 400:
        health.note_answer(context, serving, answer.response)
        return answer
    if answer.response.status == 401 and serving.method.oauth2 is not None:
        answer, serving = await _replay(context, serving, ask, entry, end, answer)
    rule = serving.connector.limits.get("retry")
    if rule is not None and answer.response.status >= 400 and _is_repeatable(ask):
        answer = await _repeat(context, serving, ask, entry, end, answer, rule)
    if answer.generation == serving.generation:  # a token that was renewed meanwhile is not to blame
        health.note_answer(context, serving, answer.response)
    return answer


async def _replay(
    context: Context, serving: Serving, ask: Call, entry: Entry, end: float, answer: Answer
) -> tuple[Answer, Serving]:
    """The answer to the call with a renewed token, once; the refusal itself where that can't be had."""
    try:
        renewed = await _after_unauthorized(context, serving)
    except BaseException:  # the caller went away, or the database did: the provider's answer must not stay open
        await answer.aclose()
        raise
    if renewed is None or not (ask.body is None or isinstance(ask.body, bytes)):
        return answer, renewed or serving
    await answer.aclose()
    again = await _send(context, renewed, ask, entry, end)
    if again.response.status == 401:
        _uncured.note(renewed)
    return again, renewed


def _is_repeatable(ask: Call) -> bool:
    if ask.method not in retries.IDEMPOTENT or not (ask.body is None or isinstance(ask.body, bytes)):
        return False
    return ask.wait > 0 and retries.wanted(ask.headers)


async def _repeat(
    context: Context, serving: Serving, ask: Call, entry: Entry, end: float, answer: Answer, rule: Mapping[str, Any]
) -> Answer:
    """Send again what the connector says may be, inside the call's life and the provider's budget of repetitions."""
    done = 0
    while retries.is_due(rule, answer.response.status, done):
        pause = retries.pause(rule, answer.response.status, answer.response.raw_headers, done, clock.now())
        if time.perf_counter() + pause >= end:
            break
        if not context.limits.provider(answer.origin, serving.connector.key).may_repeat():
            context.counters.retry(serving.connector.key, "refused")
            break
        context.counters.retry(serving.connector.key, "sent")
        await answer.aclose()
        await asyncio.sleep(pause)
        current = await _serving_now(context, serving)
        if current is None:  # suspended or deleted meanwhile
            raise errors.AccountInactive("the account stopped serving while the call waited for its next try")
        serving = current
        if clock.timestamp() >= serving.good_until:
            serving = await context.refresher.fresh(serving)
        answer = await _send(context, serving, ask, entry, end)
        done += 1
    return answer


async def _after_unauthorized(context: Context, serving: Serving) -> Serving | None:
    """The account with another token than the one that was refused, or None when there is none to be had (rule R4)."""
    context.accounts.forget(serving.id)
    current = await _serving_now(context, serving)
    if current is None or current.generation != serving.generation:
        return current  # somebody renewed it meanwhile: use that, renew nothing
    if not current.refreshable or _uncured.blocked(current):
        return None
    if current.retry_at is not None and current.retry_at > clock.now():
        return None
    outcome = await context.refresher.refresh(current)
    if outcome.result not in {"refreshed", "unchanged"}:
        return None
    renewed = await _serving_now(context, serving)
    return renewed if renewed is not None and renewed.generation != serving.generation else None


async def _serving_now(context: Context, serving: Serving) -> Serving | None:
    """The account as it is now, or None when it was deleted, suspended or disabled while the call was under way.

    Raises AccountHandedOver: what the provider says to the old token then is nobody's fault.
    """
    try:
        current = await context.accounts.get(serving.project_id, serving.id)
        current.require_serving()
    except errors.AccountHandedOver:
        raise
    except errors.MooringError:
        return None
    return current


async def _send(context: Context, serving: Serving, ask: Call, entry: Entry, end: float) -> Answer:
    planned = serving.planned(context.vault) if ask.late is None and ask.base is None else None
    if planned is not None:
        injection, secrets = planned
        given = ask.headers
    else:
        opened, scope = serving.open(context.vault)
        injection, secrets = inject(serving.method, scope), list(opened.values())
        if ask.base is not None:
            injection = based(injection, ask.base, scope)
        given = ask.headers
        if serving.connector.headers:
            given = with_defaults(serving.connector, scope, ask.headers)
    if ask.late is None:
        url = target_url(injection, ask)
        entry.url = redact_url(masked(url, secrets) if serving.method.secret_in_url else url)
    else:
        given, injection, url, body = written(serving.connector, scope, ask.late(scope, injection))
        ask = replace(ask, body=body)
        entry.url = redact_url(masked(url, secrets))
    if injection.body is not None and injection.body.goes_into(ask.method, ask.body):
        ask, given = await _with_credential(injection.body, ask, given)
    headers = outbound(given, injection.headers)
    if ask.length is not None and ask.body is not None and not isinstance(ask.body, bytes):
        # A stream keeps its announced length: many providers answer 411 to a chunked upload.
        headers.append((b"content-length", b"%d" % ask.length))
    if injection.signature is not None:
        ask, headers = await _signed(injection.signature, ask, url, headers)
    if entry.record is not None:
        entry.record.begin(serving.key(context.vault), secrets, headers, ask.body)
    step: dict[str, Any] = {"method": ask.method, "url": entry.url}
    entry.steps.append(step)
    limits, rules = context.limits, serving.connector.limits
    gate = limits.gate(serving.limit_key, rules)
    if gate is not None:
        queued = time.perf_counter()
        await gate.enter(f"{ask.method} {ask.path}", min(ask.wait, max(0.0, end - queued)))
        waited = time.perf_counter() - queued
        if waited > 0.001:
            step["queued_ms"] = round(waited * 1000, 3)
    started = time.perf_counter()
    try:
        outbound_request = OutboundRequest(ask.method, url, (), ask.body, headers, injection.identity)
        response = await _exchange(context, serving, outbound_request, injection, end - started)
    except BaseException as e:
        if gate is not None:
            gate.leave()
        if isinstance(e, HttpFailure):
            step["error"] = e.kind
            raise refusal(serving.connector.title, e) from None
        raise
    finally:
        spent = round((time.perf_counter() - started) * 1000, 3)
        step["duration_ms"] = spent
        entry.provider_ms += spent
    pause = pause_of(response.status, response.raw_headers, clock.now)
    if pause is not None:
        limits.block(serving.limit_key, rules, pause)
    step["status"] = response.status
    if entry.record is not None:
        entry.record.answered(response.raw_headers)
    scanner = None
    if not serving.connector.echo_allowed:
        scanner = SecretScanner([v for v in secrets if len(v) >= MASK_MINIMUM])
    return Answer(response, scanner, entry.url, serving.connector, gate, injection.base_url, serving.generation)


async def _exchange(
    context: Context, serving: Serving, request: OutboundRequest, injection: Injection, left: float
) -> StreamedResponse:
    """Send and wait for the answer's head, inside the bounds of its provider. Raises HttpFailure, ProviderError."""
    # A base URL that holds the credential is no name for anything.
    base = injection.base_url
    provider = context.limits.provider(origin_of(base) if serving.method.secret_in_url else base, serving.connector.key)
    provider.begin(serving.connector.title)
    try:
        first_byte = min(max(left, 0.001), serving.connector.first_byte_seconds)
        response = await context.http.stream(request, first_byte=first_byte, idle=serving.connector.idle_seconds)
    except HttpFailure as e:
        # What the guard refuses, or an answer that is no HTTP, says nothing of a provider that is down.
        if e.kind in _NO_ANSWER:
            provider.failed()
        else:
            provider.given_up()
        raise
    except ValueError as e:  # what the caller sent can't go out, such as a header name with a space
        provider.given_up()
        raise errors.BadRequest(str(e), code="InvalidHeaderError") from None
    except BaseException:
        provider.given_up()
        raise
    provider.answered()
    return response


async def _with_credential(into: InBody, ask: Call, given: Sequence[Header]) -> tuple[Call, Sequence[Header]]:
    """The call with the credential in its body, which is read whole for that. Its type is told as it is then."""
    whole = (
        ask.body if isinstance(ask.body, bytes) else await _read_whole(ask.body, "the credential goes into the body")
    )
    kind = next((value.decode("latin-1") for name, value in given if name == b"content-type"), "")
    body, kind = into.put(whole, kind)
    kept = [item for item in given if item[0] not in (b"content-type", b"content-length")]
    return replace(ask, body=body, length=None), [*kept, (b"content-type", kind.encode())]


async def _read_whole(body: AsyncIterable[bytes] | None, why: str) -> bytes:
    whole = bytearray()
    if body is not None:
        async for part in body:
            whole += part
            if len(whole) > MOST_SIGNED:
                raise errors.PayloadTooLarge(f"{why}, of at most {MOST_SIGNED >> 20} MiB")
    return bytes(whole)


async def _signed(signer: Signer, ask: Call, url: str, headers: list[Header]) -> tuple[Call, list[Header]]:
    """The call with its signature. A stream that the signature covers is read first, up to a bound."""
    if ask.body is not None and not isinstance(ask.body, bytes) and signer.needs_body(headers):
        ask = replace(ask, body=await _read_whole(ask.body, "the provider's signature covers the body"))
        headers = [item for item in headers if item[0] != b"content-length"]
    body = ask.body if isinstance(ask.body, bytes) else b"" if ask.body is None else None
    return ask, signer.sign(ask.method, url, headers, body)


def based(injection: Injection, base: Template, scope: Mapping[str, Any]) -> Injection:
    """The injection under another base URL. Raises Unprocessable for a value that the account lacks."""
    try:
        return replace(injection, base_url=validate_base_url(base.render(scope)))
    except Unresolved as e:
        raise errors.Unprocessable(f"the account lacks a value that its connector needs: {e}") from None


def written(
    connector: Connector, scope: Mapping[str, Any], late: Late
) -> tuple[Sequence[Header], Injection, str, bytes | None]:
    """A request that was written late: its headers, what is injected, its whole address and its body."""
    origin = origin_of(late.url)
    path = late.url[len(late.url.partition("://")[0]) + 3 :].partition("/")[2]
    url = target_url(replace(late.injection, base_url=origin), Call("", "/" + path, late.query, ()))
    return with_defaults(connector, scope, late.headers), late.injection, url, late.body


def masked(url: str, secrets: Iterable[str]) -> str:
    """The address without what is secret of it, wherever it stands."""
    for secret in secrets:
        if len(secret) >= MASK_MINIMUM:
            url = url.replace(quote(secret, safe=""), REDACTED).replace(secret, REDACTED)
    return url


def with_defaults(connector: Connector, scope: Mapping[str, Any], headers: Iterable[Header]) -> Sequence[Header]:
    """The caller's headers, and those that the connector sends with every call unless the caller sets them."""
    kept = [item for item in headers if item != (b"accept", b"*/*")]
    given = {name for name, _ in kept}
    defaults = raw(default_headers(connector, scope))
    accept = [] if any(name == b"accept" for name, _ in defaults) else [h for h in headers if h == (b"accept", b"*/*")]
    return [*kept, *accept, *(item for item in defaults if item[0] not in given)]


def target_url(injection: Injection, ask: Call) -> str:
    """Base URL, path and query as one URL that can't leave the base (rule P1). An injected parameter can't be doubled."""
    base = injection.base_url
    if ask.url is not None:
        given, _, query = ask.url.partition("?")
        if origin_of(given) != origin_of(base):
            raise errors.BadRequest(
                "url must be on the account's own host: its credential is sent nowhere else",
                code="InvalidUrlError",
                hint="Leave url out and give only the path.",
            )
        base = given
        if query:
            ask = replace(ask, query="&".join(filter(None, [query, ask.query])))
    query = ask.query
    if injection.query:
        names = {name for name, _ in injection.query}  # compared decoded: `api%5Fkey` is `api_key` to the provider
        kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names] if query else []
        query = "&".join([*kept, *(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in injection.query)])
    return join_path(base, ask.path, query)


def refusal(title: str, e: HttpFailure) -> errors.MooringError:
    """The refusal for a call that got no answer."""
    cause = CAUSES[of_failure(e.kind, str(e))]
    extra = {"cause": cause.code}
    if e.kind == "timeout":
        return errors.RequestTooSlow(f"{title} did not answer in time: {e}", extra=extra)
    if e.kind == "blocked":
        return errors.EgressBlocked(f"{title}: {e}", extra=extra)
    lasting = e.kind in {"tls", "too_large"}
    return errors.ProviderError(
        f"{title} could not be reached: {e}",
        hint=cause.for_operator,
        extra=extra,
        headers={} if lasting else {"retry-after": RETRY_AFTER},
    )


def preferred_wait(prefer: str) -> float:
    """Seconds that a caller is ready to wait for its turn: `wait=N` of Prefer (RFC 7240 §4.3), at most a minute."""
    for part in prefer.split(","):
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip().lower() == "wait" and _is_whole(text := value.strip().strip('"')):
            return min(60.0, float(text[:6]))
    return QUEUE_SECONDS


def _is_whole(text: str) -> bool:
    # Not `isdigit` alone: it says yes to a superscript two, which no float is made of.
    return text.isascii() and text.isdigit()
