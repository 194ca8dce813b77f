"""Providers reached by YAML alone: moto checks every AWS signature, prism plays the documents that vendors publish."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.connectors.definition import Connector
from mooring.connectors.loader import load_file
from mooring.connectors.registry import CATALOG
from tests.hub import Hub, Project, ok, refused
from tests.servers.moto import MotoServer
from tests.servers.ports import free_port
from tests.servers.prism import FIGMA, GITHUB, PrismServer, cut, document

NAME = "a b/c.txt"  # moto refuses Amazon's own client, too, for names beyond ASCII and slashes in queries
QUOTED = "a%20b/c.txt"


def with_connector(folder: Path, name: str, text: str, port: int) -> Iterator[Hub]:
    """A hub with one connector of its own, which may call one port."""
    (folder / "connectors").mkdir()
    (folder / f"connectors/{name}.yaml").write_text(text)
    with Hub(
        folder / "hub",
        free_port(),
        connectors_dir=folder / "connectors",
        egress_allow=f"127.0.0.1:{port}",
        single_process=True,
    ) as hub:
        yield hub


# --- Amazon S3, every signature checked


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def s3_hub(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub whose connector is the shipped one for Amazon S3, but for its address."""
    folder = tmp_path_factory.mktemp("s3")
    text = (CATALOG / "aws-s3.yaml").read_text().replace("connector: aws-s3", "connector: s3-at-moto")
    moved = re.sub(r"^base_url: .*$", f"base_url: http://127.0.0.1:{moto.port}", text, flags=re.MULTILINE)
    yield from with_connector(folder, "s3-at-moto", moved, moto.port)


@pytest.fixture
def storage(s3_hub: Hub) -> Project:
    return s3_hub.new_project()


def credentials(moto: MotoServer, **other: str) -> dict[str, str]:
    given = {"access_key_id": moto.access_key, "secret_access_key": moto.secret_key, "region": "us-east-1"}
    return given | other


def test_amazons_signature_is_accepted_for_every_kind_of_request(storage: Project, moto: MotoServer) -> None:
    account = storage.link(storage.config("s3-at-moto", "access_key"), credentials(moto))
    body = bytes(range(256)) * 40
    assert storage.proxy(account, "PUT", "/hub-bucket").status_code == 200
    put = storage.proxy(account, "PUT", f"/hub-bucket/{QUOTED}", content=body, headers={"content-type": "x/y"})
    assert put.status_code == 200, put.text
    assert storage.proxy(account, "GET", f"/hub-bucket/{QUOTED}").content == body
    listed = storage.proxy(account, "GET", "/hub-bucket?list-type=2&prefix=a%20b&max-keys=5").text
    assert NAME in listed
    assert storage.proxy(account, "HEAD", f"/hub-bucket/{QUOTED}").headers["content-length"] == str(len(body))
    assert storage.proxy(account, "DELETE", f"/hub-bucket/{QUOTED}").status_code == 204
    assert storage.proxy(account, "GET", f"/hub-bucket/{QUOTED}").status_code == 404


@pytest.mark.parametrize("wrong", [{"secret_access_key": "W" * 40}, {"access_key_id": "AKIAUNKNOWNUNKNOWN00"}])
def test_a_wrong_key_is_refused_by_the_server_and_not_linked(
    storage: Project, moto: MotoServer, wrong: dict[str, str]
) -> None:
    config = storage.config("s3-at-moto", "access_key")
    session = storage.session("owner-wrong", integration_id=config["id"])
    answer = session.submit(config["id"], credentials(moto, **wrong))
    assert answer.status_code == 422 and "owner-wrong" not in storage.http.get("/accounts").text


# --- documents that vendors publish


def operation(spec: dict[str, Any], method: str, path: str) -> tuple[str, dict[str, Any]]:
    """The operation of a document that an action's request is, whatever its parameters are called."""
    shape = re.sub(r"\{[^}]+\}", "{}", path)
    for known, item in spec["paths"].items():
        if re.sub(r"\{[^}]+\}", "{}", known) == shape and method.lower() in item:
            return known, item
    raise AssertionError(f"the document has no {method} {path}")


def paths_of(connector: Connector, spec: dict[str, Any]) -> set[str]:
    """The document's paths that the connector's actions and its test use."""
    found = {operation(spec, "GET", "/user")[0]}
    for action in connector.actions.values():
        request = action.request  # type: ignore[union-attr]
        assert request is not None
        path = re.sub(r"\$\{[^}]+\}", "{x}", str(getattr(request.path, "source", request.path)))
        found.add(operation(spec, request.method, path)[0])
    return found


def blames_its_own_example(refusal: dict[str, Any]) -> bool:
    """Whether prism took the request, and then found the document's example of an answer against its schema."""
    raw = [error.get("raw") for error in refusal.get("provider_errors") or ()]
    places = [fault["location"][0] for one in raw if isinstance(one, dict) for fault in one.get("validation", ())]
    return bool(places) and set(places) == {"response"}


@pytest.fixture(scope="module")
def github() -> Connector:
    return load_file(CATALOG / "github.yaml", True)


@pytest.fixture(scope="module")
def github_hub(github: Connector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The shipped connector for GitHub against GitHub's own document."""
    spec = document(GITHUB)
    with PrismServer(cut(spec, paths_of(github, spec))) as prism:
        text = (CATALOG / "github.yaml").read_text().replace("connector: github", "connector: github-at-prism")
        moved = re.sub(r"^base_url: .*$", f"base_url: http://127.0.0.1:{prism.port}", text, flags=re.MULTILINE)
        # The document knows application/json alone; GitHub takes its own media type, as its pages say.
        moved = moved.replace("Accept: application/vnd.github+json, ", "")
        yield from with_connector(tmp_path_factory.mktemp("github"), "github-at-prism", moved, prism.port)


def test_every_action_of_github_fits_githubs_own_document(github: Connector, github_hub: Hub) -> None:
    at_github = github_hub.new_project()
    account = at_github.link(at_github.config("github-at-prism", "token"), {"api_key": "github_pat_x"})
    headers = {"x-account-id": account}
    faults = {}
    for key, action in github.actions.items():
        given = action.tests[0].get("input", {})  # type: ignore[union-attr]
        answer = at_github.http.post("/actions/rpc", json={"action": key, "body": given}, headers=headers)
        if answer.status_code != 200 and not blames_its_own_example(answer.json()):
            faults[key] = answer.text[:600]
    assert not faults and len(github.actions) >= 10
    raw = at_github.proxy(account, path="/repos/acme/harbour/issues?state=never")
    assert raw.status_code in {400, 422}, "prism checks what it gets"


CHOSEN = ("/v1/files/{file_key}/comments*", "/v1/me", "/v2/webhooks*")
PLAYED = (
    "/v1/me",
    "/v1/files/{file_key}/comments",
    "/v1/files/{file_key}/comments/{comment_id}",
    "/v2/webhooks",
    "/v2/webhooks/{webhook_id}",
)


@pytest.fixture(scope="module")
def figma_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Figma by nothing but the import of its document."""
    tmp = tmp_path_factory.mktemp("figma")
    with PrismServer(cut(document(FIGMA), PLAYED)) as prism:
        command = ["connectors", "import-openapi", str(FIGMA), "--key", "figma-imported"]
        command += ["--base-url", f"http://127.0.0.1:{prism.port}"]
        for pattern in CHOSEN:
            command += ["--include", pattern]
        written = Hub(tmp / "none", free_port()).command(*command, check=False)
        assert written.returncode == 0, written.stderr
        yield from with_connector(tmp, "figma-imported", written.stdout, prism.port)


def test_a_connector_that_the_import_wrote_calls_what_the_document_describes(figma_hub: Hub) -> None:
    project = figma_hub.new_project()
    account = project.link(project.config("figma-imported", "api_key"), {"api_key": "figd_x"})
    headers = {"x-account-id": account}

    def run(action: str, **given: Any) -> Any:
        return ok(project.http.post("/actions/rpc", json={"action": action, "body": given}, headers=headers))

    assert run("get_me")["data"]["handle"]
    assert isinstance(run("get_comments", file_key="abc", as_md=True)["data"], list)
    assert run("post_comment", file_key="abc", message="Seen")["data"]["id"]
    run("delete_comment", file_key="abc", comment_id="7")
    made = {"event_type": "PING", "context": "team", "context_id": "1", "endpoint": "https://acme.example/x"}
    assert run("post_webhook", **made, passcode="x")["data"]["id"]
    wrong = {"action": "post_webhook", "body": {**made, "event_type": "NOTHING"}}
    refused(project.http.post("/actions/rpc", json=wrong, headers=headers), 400, "ValidationError")
    raw = project.http.post("/proxy/v1/files/abc/comments", json={"message": 7}, headers=headers)
    assert raw.status_code in {400, 422}, "prism checks what it gets"
