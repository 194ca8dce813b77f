"""A project's settings: branding that can be read, origins that are exact, and what they permit (rules W3, W6, O8)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mooring.identity.project_settings import SURFACES, accent, contrast
from tests.conftest import Ports
from tests.hub import Project, client, ok, refused

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
PREFLIGHT = {"access-control-request-method": "GET", "access-control-request-headers": "x-hub-session-token"}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known colour that just fails
    assert accent(" #06F ", "light") == "#0066ff"
    with pytest.raises(ValueError, match=r"4\.5:1.*Take a lighter one"):
        accent("#0000aa", "dark")
    assert set(SURFACES) == {"light", "dark"}


def test_a_project_begins_with_defaults_and_keeps_what_is_set(project: Project) -> None:
    before = ok(project.http.get("/project"))
    assert before["id"] == project.id and before["name"] == "test" and before["allowed_origins"] == []
    assert before["offer_all_methods"] is True and before["logo_url"] is None
    values = {
        "display_name": "  Acme   HR ",
        "accent_light": "#0a6b4b",
        "accent_dark": "#7FD0E8",
        "support_contact": "help@acme.example",
        "default_language": "de",
        "allowed_origins": ["https://App.Acme.example/", "http://localhost:3000", "https://app.acme.example"],
        "return_urls": ["https://old.acme.example/done"],
        "offer_all_methods": False,
        "logo": b64(PNG),
    }
    after = ok(project.http.patch("/project", json=values))
    assert after == ok(project.http.get("/project"))
    assert after["name"] == after["display_name"] == "Acme HR"
    assert after["accent_dark"] == "#7fd0e8" and after["default_language"] == "de"
    assert after["allowed_origins"] == ["https://app.acme.example", "http://localhost:3000"]
    assert after["return_urls"] == ["https://old.acme.example/done"] and after["offer_all_methods"] is False
    logo = project.http.get(after["logo_url"])
    assert logo.content == PNG and logo.headers["content-type"] == "image/png"
    assert logo.headers["x-content-type-options"] == "nosniff" and "sandbox" in logo.headers["content-security-policy"]

    assert ok(project.http.patch("/project", json={})) == after
    cleared = ok(project.http.patch("/project", json=dict.fromkeys(values)))
    assert cleared == before
    refused(project.http.get(after["logo_url"]), 404)


BAD: list[tuple[str, Any]] = [
    *(("allowed_origins", [o]) for o in ("*", "https://*.acme.example", "https://a.example/path", "a.example")),
    *(("allowed_origins", [o]) for o in ("http://acme.example", "null", "https://u@a.example", "javascript:alert(1)")),
    ("allowed_origins", "https://a.example"),
    ("allowed_origins", [f"https://a{i}.example" for i in range(101)]),
    *(("return_urls", [u]) for u in ("http://a.example/", "/done", "https://a.example/#x", "https://a.example/\nb")),
    *(("accent_light", c) for c in ("#ffff00", "red", "#12345", "#1d5fd0;--x:1")),
    ("accent_dark", "#101010"),
    *(("support_contact", c) for c in ("javascript:alert(1)", "http://a.example", "x", "a@b.example\nc@d.example")),
    *(("logo", b64(c)) for c in (b"<svg onload=alert(1)>", b"GIF89a", b"", PNG + b"\0" * 100_000)),
    ("logo", "not base64!"),
    ("default_language", "xx"),
    ("display_name", "a\u202eb"),
    ("name", "x"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda v: repr(v)[:40])
def test_what_is_wrong_is_refused_whole(project: Project, name: str, value: Any) -> None:
    before = ok(project.http.get("/project"))
    good = {"support_contact": "help@acme.example"} if name != "support_contact" else {"display_name": "x"}
    body = refused(project.http.patch("/project", json={**good, name: value}), 400, "ValidationError")
    assert any(fault.startswith(name) for fault in body["errors"])
    assert ok(project.http.get("/project")) == before


def test_a_key_needs_its_scopes(project: Project) -> None:
    made = project.hub.new_project(scopes=["platform:read"])
    ok(made.http.get("/project"))
    refused(made.http.patch("/project", json={}), 403)
    refused(client(project.hub.url).get("/project"), 401)
    assert client(project.hub.url).options("/project", headers={"origin": "https://a.example"}).status_code == 405


def test_once_origins_are_registered_only_they_read_answers(project: Project, other_project: Project) -> None:
    project.http.patch("/project", json={"allowed_origins": ["https://app.acme.example"]})
    mine, other = project.session(), other_project.session()
    own = project.hub.url
    for origin, allowed in (
        ("https://app.acme.example", True),
        (own, True),
        ("https://evil.example", False),
        ("https://app.acme.example.evil.example", False),
        ("null", False),
    ):
        answer = mine.http.get("/hub/settings", headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None), origin
        assert answer.headers["vary"] == "Origin" and "access-control-allow-credentials" not in answer.headers
        assert other.http.get("/hub/settings", headers={"origin": origin}).headers["access-control-allow-origin"] == "*"
        preflight = client(own).options("/hub/settings", headers={"origin": origin, **PREFLIGHT})
        assert preflight.status_code == 204


def test_the_flow_may_return_to_registered_places_of_its_own_project(
    project: Project, other_project: Project, ports: Ports
) -> None:
    project.http.patch(
        "/project",
        json={"allowed_origins": ["https://app.acme.example"], "return_urls": ["https://old.acme.example/done"]},
    )
    setup = {"client_id": "a", "client_secret": "b", "sandbox_url": f"http://127.0.0.1:{ports.sandbox}"}

    def status(owner: Project, url: str) -> int:
        config = owner.config("sandbox", "oauth2", setup)
        return owner.session(integration_id=config["id"]).start_oauth(config["id"], redirect_uri=url).status_code

    for good in ("https://app.acme.example/any?x=1", "https://old.acme.example/done?x=1"):
        assert status(project, good) == 302 and status(other_project, good) == 400
    for bad in ("https://old.acme.example/other", "https://old.acme.example/done/more", "https://evil.example/"):
        assert status(project, bad) == 400
