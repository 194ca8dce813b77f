"""The availability switch on the pages, and the reason where an operator meets it."""

from __future__ import annotations

from tests.dashboard.people import Crew, done, text
from tests.dashboard.test_pages import project_of

REASON = "Needs the partner agreement"


def test_a_connector_is_made_unavailable_with_a_reason_and_available_again(crew: Crew) -> None:
    at = f"{crew.base}/connectors/new/github"
    assert "Make unavailable" in text(crew.admin.get(at))
    assert crew.admin.post(at + "/unavailable", {"reason": " "}).status_code == 400
    done(crew.admin.post(at + "/unavailable", {"reason": REASON}), to=at)
    page = crew.admin.get(at)
    assert REASON in text(page) and "Make available" in text(page) and 'name="method"' not in page.text
    card = crew.admin.get(f"{crew.base}/connectors/new?q=github").text
    assert REASON in card and "card off" in card
    assert crew.admin.post(at, {"method": "token"}).status_code == 422
    assert REASON in crew.admin.part(at + "/unavailable").text  # to be changed
    done(crew.admin.post(at + "/available"), to=at)
    done(crew.admin.post(at, {"method": "token"}))


def test_everybody_reads_the_reason_beside_a_config_and_no_link_is_made_for_it(crew: Crew) -> None:
    config = project_of(crew).config("github", "token")
    assert config["id"] in crew.member.part(crew.base + "/link").text
    done(crew.admin.post(f"{crew.base}/connectors/new/github/unavailable", {"reason": REASON}))
    for path in ("/connectors", f"/connectors/{config['id']}"):
        told = text(crew.viewer.get(crew.base + path))
        assert REASON in told and "not available" in told.lower()
    assert config["id"] not in crew.member.part(crew.base + "/link").text
    form = {"owner_id": "o", "owner_name": "O", "config": config["id"], "life": "1800"}
    refused = crew.member.post(crew.base + "/link", form)
    assert refused.status_code == 422 and REASON in text(refused)


def test_drafts_of_the_catalogue_are_shown_on_demand(crew: Crew) -> None:
    page = crew.admin.get(f"{crew.base}/connectors/new").text
    assert "/connectors/new/iterable" not in page and "Show drafts" in page
    page = crew.admin.get(f"{crew.base}/connectors/new?drafts=yes&q=iterable").text
    assert "/connectors/new/iterable" in page and "draft" in page and "Show drafts" not in page
    assert crew.admin.get(f"{crew.base}/connectors/new/iterable").status_code == 200
