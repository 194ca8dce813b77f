"""`download_file` of `.s1.yaml` actions: redirects, and files that stand inside of an answer or behind an address in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urljoin

from mooring import errors
from mooring.actions.bodies import decoded, text
from mooring.actions.s1.http import Output, content_of
from mooring.actions.s1.values import read
from mooring.connectors.apply import Injection
from mooring.connectors.s1.program import HttpStep
from mooring.protocol.urls import origin_of
from mooring.proxy.reading import Whole
from mooring.proxy.service import Late

DEFAULT_REDIRECTS: Final = 5
MOST_REDIRECTS: Final = 20  # that a file may ask for
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class FileData(str):
    """The content of a downloaded file as a text that remembers the answer it came in."""

    __slots__ = ("whole",)
    whole: Whole

    def __new__(cls, content: str, whole: Whole) -> Self:
        self = super().__new__(cls, content)
        self.whole = whole
        return self


def most_redirects(step: HttpStep) -> int:
    """How many redirects the step follows."""
    asked = (step.download or {}).get("maxRedirects")
    return DEFAULT_REDIRECTS if asked is None else max(0, min(int(asked), MOST_REDIRECTS))


def is_same_host(one: str, other: str) -> bool:
    """Whether two addresses have scheme, host and port in common."""
    try:
        return origin_of(one) == origin_of(other)
    except errors.BadRequest:
        return False


def next_address(step: HttpStep, whole: Whole, at: str) -> str | None:
    """Where an answer redirects to. Raises ProviderError where the step does not follow."""
    location = whole.headers.get("location")
    if whole.status not in _REDIRECTS or not location:
        return None
    if step.download is None or step.download.get("followRedirects") is False:
        raise errors.ProviderError("the file is behind a redirect, which the step does not follow")
    return urljoin(at, location)


def fetcher(url: str, *, with_credential: bool) -> Callable[[Mapping[str, Any], Injection], Late]:
    """A GET request of an address that an answer told. The credential is sent to the account's own host alone (rule P1)."""

    def write(_credential: Mapping[str, Any], injection: Injection) -> Late:
        own = origin_of(injection.base_url)
        try:
            origin = origin_of(url)
        except errors.BadRequest:
            raise errors.ProviderError("the address of the file is none") from None
        if not origin.startswith("https://") and origin != own:
            raise errors.ProviderError("the file is at an address without TLS")
        kept = with_credential and origin == own
        address, _, query = url.partition("#")[0].partition("?")
        return Late(address, query, [], None, injection if kept else Injection(injection.base_url, [], []))

    return write


def address_in(step: HttpStep, whole: Whole, scope: Mapping[str, Any], at: str) -> str | None:
    """The address of the file that an answer tells (`urlKey`)."""
    rule = step.download or {}
    if not rule.get("urlKey"):
        return None
    found = read(content_of(step, whole)[0], str(rule["urlKey"]), scope)
    if not isinstance(found, str) or not found:
        raise errors.ProviderError("the answer does not tell where the file is")
    return urljoin(at, found)


def output_of(step: HttpStep, whole: Whole, told: Any, scope: Mapping[str, Any]) -> Output:
    """The file as the output of its step. `told` is the answer in which its name and type stand, and perhaps itself."""
    rule = step.download or {}

    def look(key: str) -> str | None:
        found = read(told, str(rule[key]), scope) if rule.get(key) else None
        return text(found) if isinstance(found, str | int) and found != "" else None

    body, headers = whole.body, dict(whole.headers)
    if rule.get("dataKey") and not rule.get("urlKey"):
        found = read(told, str(rule["dataKey"]), scope)
        if not isinstance(found, str):
            raise errors.ProviderError("the answer does not hold the file where its connector says")
        body = decoded(found) if rule.get("contentIsBase64") is True else found.encode()
        headers = {"content-type": "application/octet-stream"}
    if (kind := look("contentTypeKey") or rule.get("contentType")) is not None:
        headers["content-type"] = str(kind)
    if (name := look("fileNameKey")) is not None:
        safe = re.sub(r'[\x00-\x1f"\\]', "_", name)
        headers["content-disposition"] = f'attachment; filename="{safe}"'
    file = Whole(whole.status, headers, body, whole.data, whole.url)
    disposition = headers.get("content-disposition")
    shown: Any = body.decode("utf-8", "replace") if rule.get("encoding") == "utf8" else base64.b64encode(body).decode()
    written = re.search(r'filename="?([^";]+)', disposition or "")
    meta = {
        "contentType": headers.get("content-type", "application/octet-stream"),
        "contentLength": len(body),
        "fileName": written[1] if written else None,
        "lastModified": headers.get("last-modified"),
        "etag": headers.get("etag"),
    }
    more = {"contentDisposition": disposition, "fileMetadata": meta, "finalUrl": whole.url}
    return Output(FileData(shown, file), shown, whole.status, None, headers, file, more)
