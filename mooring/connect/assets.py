"""The Hub's files: one script with its style and English inside, the other languages, and what old pages load."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Final

from fastapi import APIRouter, Request, Response

from mooring import errors
from mooring.connect.languages import WEB, hub_file
from mooring.identity.project_settings import LANGUAGES

router = APIRouter(include_in_schema=False)

PARTS: Final = ("dom.js", "api.js", "text.js", "picker.js", "accounts.js", "form.js", "consent.js", "element.js")


def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def hub_script() -> str:
    """`hub.js`: the parts in one scope, in order. Readable as served; only the style loses its indentation."""
    style = "".join(line.strip() for line in _read("hub.css").splitlines())
    head = (
        f"const LANGUAGES = {json.dumps(LANGUAGES)};\n"
        f"const VERSION = {json.dumps(_languages_version())};\n"
        f"const EN = {json.dumps(json.loads(_read('lang/en.json')), ensure_ascii=False)};\n"
        f"const CSS = {json.dumps(style, ensure_ascii=False)};\n"
    )
    guard = 'if (typeof HTMLElement === "undefined") return; // on a server'
    return f'(() => {{\n"use strict";\n{guard}\n{head}\n' + "\n".join(_read(part) for part in PARTS) + "})();\n"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _languages_version() -> str:
    return _digest(*(hub_file(code) for code in LANGUAGES))


@lru_cache(maxsize=1)
def script_version() -> str:
    """What changes whenever the script does."""
    return _digest(hub_script())


@lru_cache(maxsize=16)
def _file(name: str) -> tuple[str, str]:
    text = _read(name)
    return text, _digest(text)


def _answer(request: Request, text: str, version: str, media_type: str) -> Response:
    """A public file: for good under its version, else asked for again by its ETag."""
    pinned = request.query_params.get("v") == version
    etag = f'"{version}"'
    headers = {
        "etag": etag,
        "cache-control": "public, max-age=31536000, immutable" if pinned else "public, max-age=0, must-revalidate",
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
    }
    if etag in {part.strip() for part in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(text, media_type=media_type, headers=headers)


@router.get("/hub.js")
async def hub_js(request: Request) -> Response:
    """The script that defines `<mooring-hub>`."""
    return _answer(request, hub_script(), script_version(), "text/javascript")


@router.get("/connect.js")
@router.get("/stackone/connect.js")
async def connect_js(request: Request) -> Response:
    """The script that `@stackone/react-hub` loads."""
    return _answer(request, *_file("connect.js"), "text/javascript")


@router.get("/assets/hub/{language}.json")
async def language_file(request: Request, language: str) -> Response:
    """The Hub's texts in one language."""
    if language not in LANGUAGES:
        raise errors.NotFound("there is no such language")
    return _answer(request, hub_file(language), _languages_version(), "application/json")


def hosted_script() -> str:
    """The script of the page behind a connect link."""
    return _file("hosted.js")[0]
