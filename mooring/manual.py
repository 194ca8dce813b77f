"""The documentation as the hub serves it: `/llms.txt`, its index for machines (row 000-1), and the pages below `/docs/`."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from mooring import errors

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).resolve().parent
# A wheel carries the pages inside the package; in a checkout they stand beside it.
FOLDER: Final = next((p for p in (_HERE / "docs", _HERE.parent / "docs") if p.is_dir()), _HERE)
_MEDIA: Final = {".md": "text/markdown; charset=utf-8", ".json": "application/json"}


@lru_cache(maxsize=1)
def pages() -> dict[str, Path]:
    """Every page by its path below `/docs/`."""
    return {
        path.relative_to(FOLDER).as_posix(): path
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _MEDIA and "web" not in path.parts
    }


@lru_cache(maxsize=4)
def index(public_url: str) -> str:
    """The index: each page with its first sentence and its headings."""
    out = [
        "# Mooring",
        "",
        "> The open, self-hosted integration hub: end users link accounts, a backend calls providers through them.",
    ]
    groups: dict[str, list[str]] = {}
    for name, path in pages().items():
        if path.suffix != ".md":
            continue
        title, first, headings = _outline(path.read_text(encoding="utf-8"))
        group = (
            "Decisions"
            if name.startswith("decisions/")
            else "Guides"
            if name.startswith("guides/")
            else "Documentation"
        )
        line = f"- [{title}]({public_url}/docs/{name}): {first}"
        groups.setdefault(group, []).append(line + (f" Sections: {', '.join(headings)}." if headings else ""))
    for group in ("Documentation", "Guides", "Decisions"):
        if group in groups:
            out += ["", f"## {group}", "", *groups[group]]
    if "openapi.json" in pages():
        out += [
            "",
            "## API",
            "",
            f"- [OpenAPI document]({public_url}/docs/openapi.json): every route as machines read it.",
        ]
    return "\n".join(out) + "\n"


def _outline(text: str) -> tuple[str, str, list[str]]:
    plain = re.sub(r"<!--.*?-->|```.*?```", "", text, flags=re.DOTALL)
    title = next(iter(re.findall(r"^# (.+)$", plain, re.MULTILINE)), "Untitled")
    body = re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", plain.partition(f"# {title}")[2])
    paragraphs = [
        " ".join(p.split()) for p in body.split("\n\n") if p.strip() and not p.lstrip().startswith(("#", "|", "-"))
    ]
    first = re.split(r"(?<=[.!?:]) ", paragraphs[0])[0].rstrip(":") if paragraphs else ""
    headings = [re.sub(r"[`*]", "", h) for h in re.findall(r"^## (.+)$", plain, re.MULTILINE)]
    return title, first, headings[:20]


@router.get("/llms.txt")
async def llms_txt(request: Request) -> Response:
    """The index of the documentation."""
    text = index(request.app.state.context.public_url)
    return Response(text, media_type="text/plain; charset=utf-8", headers={"cache-control": "public, max-age=3600"})


@router.get("/docs/{name:path}")
async def page(name: str) -> Response:
    """One page of the documentation, as it was written."""
    path = pages().get(name)
    if path is None:
        raise errors.NotFound("there is no such page of the documentation")
    return Response(
        path.read_bytes(), media_type=_MEDIA[path.suffix], headers={"cache-control": "public, max-age=3600"}
    )
