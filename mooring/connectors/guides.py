"""Connection guides: Markdown beside a connector's file, completed from the file, and rendered to safe HTML. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mooring.connectors.definition import AuthMethod, Connector

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

SECTIONS: Final = ("Who can do it", "Steps", "Permissions", "Test", "Troubleshooting")
METHOD_HEADING: Final = re.compile(r"^### \{([^}]*)\}\s*$", re.MULTILINE)
PERMISSIONS: Final = "{permissions}"
COMMON: Final = "{common}"
_ESCAPED = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")

_COMMON_TROUBLE: Final = """\
- **The key is not accepted.** Copy key, client id or client secret again, without spaces or line breaks before or after it.
- **A permission is missing.** Enable every permission of the list above, and save it at the provider. Some providers
  apply it only to keys that are made after that.
- **It worked for one person and not for another.** The person, or the user that the key belongs to, needs the rights of
  an administrator, or exactly those of the list above.
- **It worked before.** The key was changed or has expired, or the permission was withdrawn. Make a new key, or sign in
  again, and use *Reconnect*: the connection keeps its history.
- **Somebody leaves the company.** A connection made with personal credentials ends with them. Where the provider has
  service users, use one: it belongs to no person, and needs only the rights of the list above.
- **Nothing helps.** Write to whoever sent you here. Name {title}, the code of the error, and the request id that is
  shown with it. Never send the key itself.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a guide, as HTML that holds nothing but the elements of Markdown."""

    id: str
    title: str
    html: str


@dataclass(frozen=True, slots=True)
class Guide:
    """A rendered guide."""

    key: str
    title: str
    sections: tuple[Section, ...]

    @property
    def html(self) -> str:
        """All sections with their headings."""
        return "\n".join(
            f'<section aria-labelledby="{s.id}"><h2 id="{s.id}">{s.title}</h2>\n{s.html}</section>'
            for s in self.sections
        )


def render_guide(connector: Connector, method: str | None = None) -> Guide:
    """The guide of a connector; with `method` only that method's steps and permissions. Raises KeyError for another one.

    A connector without a Markdown file gets a guide made from what its fields say.
    """
    methods = [connector.auth[method]] if method is not None else list(connector.auth.values())
    text = connector.guide or _made_of_fields(connector)
    parts = split_sections(text)
    sections = []
    for title in SECTIONS:
        body = parts.get(title, "")
        if title == "Steps":
            body = _steps(body, methods, alone=len(methods) == 1)
        elif title == "Permissions":
            body = (
                body.replace(PERMISSIONS, _permissions(methods))
                if PERMISSIONS in body
                else f"{body}\n\n{_permissions(methods)}"
            )
        elif title == "Troubleshooting":
            common = _COMMON_TROUBLE.replace("{title}", escape(connector.title))
            body = body.replace(COMMON, common) if COMMON in body else f"{body}\n\n{common}"
        if body.strip():
            sections.append(Section(slug(title), title, to_html(body)))
    return Guide(connector.key, f"Connect {connector.title}", tuple(sections))


def split_sections(text: str) -> dict[str, str]:
    """Heading of the second level → what stands below it."""
    out: dict[str, str] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        out[title.strip()] = body
    return out


def method_parts(steps: str) -> dict[str, str]:
    """Key of an auth method → its steps; "" → what stands before the first one."""
    found = list(METHOD_HEADING.finditer(steps))
    out = {"": steps[: found[0].start()] if found else steps}
    for here, following in zip(found, [*found[1:], None], strict=True):
        out[here[1]] = steps[here.end() : following.start() if following else len(steps)]
    return out


def _steps(body: str, methods: Sequence[AuthMethod], *, alone: bool) -> str:
    parts = method_parts(body)
    out = [parts[""]]
    for method in methods:
        text = parts.get(method.key, "").strip() or _steps_of_fields(method)
        out.append(text if alone else f"### {escape(method.label)}\n\n{text}")
    return "\n\n".join(out)


def _permissions(methods: Sequence[AuthMethod]) -> str:
    """What each method needs, from the connector's file: scopes with their reasons, and rights in words."""
    out = []
    for method in methods:
        lines = [f"### {escape(method.label)}", ""] if len(methods) > 1 else []
        oauth2 = method.oauth2
        if oauth2 is not None and oauth2.scopes:
            lines += ["| Scope | Why it is needed |", "|---|---|"]
            lines += [f"| `{_code(s)}` | {escape(oauth2.scope_reasons.get(s, '')) or '–'} |" for s in oauth2.scopes]
            lines.append("")
        lines += [f"- {escape(p)}" for p in method.permissions]
        if len(lines) <= 2 and not method.permissions and not (oauth2 and oauth2.scopes):
            lines.append("No special permission is needed.")
        out.append("\n".join(lines))
    return "\n\n".join(out)


def _steps_of_fields(method: AuthMethod) -> str:
    lines = [f"{escape(f.label)}: {escape(f.help)}" if f.help else f"Enter {escape(f.label)}." for f in method.fields]
    if method.oauth2 is not None and method.oauth2.grant == "authorization_code":
        lines.append("Choose Connect. The provider's own page opens; sign in there and agree.")
    else:
        lines.append("Choose Connect. The values are tested at once.")
    return "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))


def _made_of_fields(connector: Connector) -> str:
    parts = "\n\n".join(f"### {{{m.key}}}\n\n{_steps_of_fields(m)}" for m in connector.auth.values())
    return (
        f"# {connector.title}\n\n## Who can do it\n\nSomebody who may give the permissions below, in most companies an "
        f"administrator.\n\n## Steps\n\n{parts}\n\n## Permissions\n\n{PERMISSIONS}\n\n## Test\n\nThe connection is tested "
        "before it is saved. If the test fails, nothing is saved and the reason is shown.\n\n"
        f"## Troubleshooting\n\n{COMMON}\n"
    )


def escape(text: str) -> str:
    """Text as Markdown shows it literally."""
    return _ESCAPED.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return text.replace("`", "").replace("|", "\\|")


def slug(title: str) -> str:
    """The id of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt  # sixty modules, for pages that few open

    # No HTML, no images: a guide is text, whoever wrote it. The library refuses javascript: and the like in links.
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])


def to_html(text: str) -> str:
    """Markdown as HTML without any raw markup; links open outside and tell nothing of where they were clicked."""
    parser = _markdown()
    tokens = parser.parse(text)
    for token in _all(tokens):
        if token.type == "link_open" and str(token.attrGet("href")).startswith(("https://", "http://")):
            token.attrSet("rel", "noopener noreferrer")
            token.attrSet("target", "_blank")
        elif token.type == "link_open" and not str(token.attrGet("href")).startswith(("#", "mailto:")):
            token.attrSet("href", "#")
    return str(parser.renderer.render(tokens, parser.options, {}))


def _all(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())
