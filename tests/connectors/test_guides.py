"""Connection guides: complete for every shipped connector, rendered safely, and checked by a linter."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mooring.connectors.guide_rules import guide_problems
from mooring.connectors.guides import SECTIONS, render_guide, to_html
from mooring.connectors.loader import load_file
from mooring.connectors.registry import CATALOG, load_registry
from tests.command import mooring
from tests.hub import Hub, Project, client, ok, refused

REGISTRY = load_registry()
ALLOWED = {
    "section", "h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "a", "em", "strong", "code", "pre", "blockquote", "hr",
    "br", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


class Elements(HTMLParser):
    """Collects what a document holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html)
    return parser.found


@pytest.mark.parametrize("key", REGISTRY)
def test_every_shipped_connector_has_a_complete_guide(key: str) -> None:
    connector = REGISTRY[key]
    assert guide_problems(connector, f"{key}.md") == []
    guide = render_guide(connector)
    assert [s.title for s in guide.sections] == list(SECTIONS)
    for method in connector.auth.values():
        alone = render_guide(connector, method.key)
        scopes = method.oauth2.scopes if method.oauth2 else ()
        shown = next(s.html for s in alone.sections if s.title == "Permissions")
        for scope in scopes:
            assert f"<code>{scope}</code>" in shown
            assert method.oauth2 is not None and method.oauth2.scope_reasons[scope]
        assert shown.count("<tr>") == (len(scopes) + 1 if scopes else 0)
    trouble = next(s.html for s in guide.sections if s.title == "Troubleshooting")
    for row in ("spaces", "save it", "administrator", "Reconnect", "service", "request id"):  # rows 000-17, 21…25
        assert row in trouble
    assert {tag for tag, _ in elements(guide.html)} <= ALLOWED


def test_scopes_are_not_written_again_in_a_guide() -> None:
    for key, connector in REGISTRY.items():
        for method in connector.auth.values():
            for scope in method.oauth2.scopes if method.oauth2 else ():
                if len(scope) > 12:
                    assert scope not in (connector.guide or ""), (key, scope)


NASTY = {
    "an element": "<script>alert(1)</script>",
    "an attribute": '<img src=x onerror="alert(1)">',
    "a script link": "[x](javascript:alert(1))",
    "a data link": "[x](data:text/html,<script>alert(1)</script>)",
    "an image": "![x](https://evil.example/pixel.png)",
    "a link that breaks out": '[x](https://a.example/"onmouseover="alert(1))',
    "a reference": "[x][y]\n\n[y]: javascript:alert(1)",
    "an autolink": "<javascript:alert(1)>",
    "entities": "[x](&#106;avascript:alert(1))",
    "a relative link": "[x](/admin)",
}


@pytest.mark.parametrize("name", NASTY)
def test_markdown_of_a_guide_can_not_do_harm(name: str) -> None:
    for tag, attributes in elements(to_html(NASTY[name])):
        assert tag in ALLOWED, tag
        assert set(attributes) <= {"href", "rel", "target", "start", "class", "style"}, attributes
        href = attributes.get("href") or "#"
        assert href.startswith(("#", "https://", "mailto:")), href
        if href.startswith("https://"):
            assert attributes["rel"] == "noopener noreferrer"


def test_what_a_connector_file_says_is_shown_as_text() -> None:
    sandbox = REGISTRY["sandbox"]
    method = sandbox.auth["api_key"]
    nasty = replace(method, permissions=("<b>x</b> [y](javascript:z) `q` *w*",), label="<i>L</i>")
    guide = render_guide(replace(sandbox, title="<u>T</u>", auth={"api_key": nasty, "basic": sandbox.auth["basic"]}))
    assert {tag for tag, _ in elements(guide.html)} <= ALLOWED
    assert "&lt;b&gt;x&lt;/b&gt; [y](javascript:z) `q` *w*" in guide.html


GUIDE = (CATALOG / "ashby.md").read_text(encoding="utf-8")
FAULTS = {
    "a section is missing": (GUIDE.replace("## Test\n", ""), "the section `## Test` is missing"),
    "a section is misspelled": (GUIDE.replace("## Test\n", "## Tests\n"), "unknown section `Tests`; did you mean `Test`?"),
    "a method is unknown": (GUIDE.replace("{api_key}", "{api_kye}"), "there is no auth method `api_kye`"),
    "a method is missing": (GUIDE.replace("### {api_key}", ""), "the steps of the auth method `api_key` are missing"),
    "nothing below a heading": (GUIDE.replace("## Test\n", "## Test\n\n## Test it\n"), "nothing stands below `Test`"),
    "a link to no heading": (GUIDE.replace("In Ashby", "See [this](#nowhere)"), "`#nowhere` leads to no heading"),
    "scopes are not filled in": (GUIDE.replace("{permissions}", ""), "Permissions needs `{permissions}`"),
    "no title": (GUIDE.replace("# Ashby\n", "", 1), "a guide begins with `# Ashby`"),
    "no guide": (None, "`ashby` has no guide"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_linter_tells(name: str) -> None:
    text, message = FAULTS[name]
    problems = guide_problems(replace(REGISTRY["ashby"], guide=text), "ashby.md")
    assert any(p.message.startswith(message) for p in problems), problems


def test_the_command_tells_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "wiki.yaml"
    file.write_text(
        "connector: wiki\ntitle: Wiki\ncategory: other\nbase_url: https://wiki.example\nauth:\n"
        '  token: {bearer: "${api_key}", fields: {api_key: {secret: true}}, test: {get: /me}}\n'
    )
    done = mooring(tmp_path, "connectors", "check", str(file))
    assert done.returncode == 0 and "there is no guide; people see one made of the fields" in done.stderr
    (tmp_path / "wiki.md").write_text("# Wiki\n\n## Steps\n\n### {nosuch}\n\nDo it.\n")
    done = mooring(tmp_path, "connectors", "check", str(file))
    assert done.returncode == 2
    assert f"{tmp_path / 'wiki.md'}:5:1: there is no auth method `nosuch`" in done.stderr
    assert load_file(file, builtin=False).guide  # a faulty guide does not stop the hub


def test_a_connector_without_a_guide_gets_one_from_its_fields() -> None:
    guide = render_guide(replace(REGISTRY["bamboohr"], guide=None))
    assert [s.title for s in guide.sections] == list(SECTIONS)
    assert "The first part of the address you use" in guide.html


# --- over the hub ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", REGISTRY)
def test_the_page_is_strict_and_self_contained(hub: Hub, key: str) -> None:
    answer = client(hub.url).get(f"/guides/{key}")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"style-src 'nonce-([^']+)'", policy)
    assert nonce and f'<style nonce="{nonce[1]}">' in answer.text
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
    found = elements(answer.text)
    assert not [tag for tag, _ in found if tag in {"script", "iframe", "form", "object", "link"}]
    assert not [a for _, a in found if any(n.startswith("on") or n == "style" for n in a)]
    ids = {a["id"] for _, a in found if "id" in a}
    assert all(a["href"][1:] in ids for t, a in found if t == "a" and (a.get("href") or "").startswith("#"))  # type: ignore[index]
    assert [t for t, _ in found].count("h1") == 1 and dict(found)["html"]["lang"] == "en"
    connector = REGISTRY[key]
    assert connector.docs is None or f'href="{connector.docs}"' in answer.text


def test_unknown_guides_do_not_exist(hub: Hub, project: Project) -> None:
    http = client(hub.url)
    for path in ("/guides/nosuch", "/guides/ashby?method=nosuch"):
        refused(http.get(path), 404)
    session = project.session()
    refused(session.http.get("/hub/guides/nosuch"), 404)
    refused(session.http.get("/hub/guides/ashby?method=nosuch"), 404)
    refused(http.get("/hub/guides/ashby"), 401)


def test_the_hub_gets_the_guide_of_one_method(hub: Hub, project: Project) -> None:
    session = project.session()
    whole = ok(session.http.get("/hub/guides/hubspot"))
    assert whole["title"] == "Connect HubSpot" and whole["url"] == f"{hub.url}/guides/hubspot"
    assert "Private app token" in whole["html"] and [s["title"] for s in whole["sections"]] == list(SECTIONS)
    one = ok(session.http.get("/hub/guides/hubspot", params={"method": "oauth2"}))
    assert "Connect app" in one["html"] and "scopes tab" not in one["html"]
    assert "<code>crm.objects.deals.read</code>" in one["html"] and "Reads deals" in one["html"]
    assert one["docs"] == REGISTRY["hubspot"].docs
