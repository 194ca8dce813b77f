"""One hub on SQLite for all causes, with a connector whose provider the tests play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Ports, oidc_connector
from tests.diagnosis import provider as providers
from tests.diagnosis.authority import Authority
from tests.diagnosis.provider import Provider
from tests.hub import Hub, Project
from tests.servers.ports import free_port

CONNECTOR = """\
connector: doctor
title: Doctor
category: other
docs: https://doctor.example/docs
base_url: {url}
errors:
  - {{status: 418, cause: key_revoked}}
  - {{text: "DOC90094", cause: admin_consent_required}}
  - {{status: 403, when: "${{response.body.code == 'E_SEAT'}}", cause: plan_lacks_api}}
  - {{status: 420, as: rate_limited}}
auth:
  key:
    bearer: ${{api_key}}
    fields: {{api_key: {{secret: true, placeholder: doc_live_0123}}}}
    test: &test {{get: /me, identity: id, identity_label: name, fail_when: refused}}
  code: &code
    label: OAuth 2.0
    oauth2: &oauth2
      authorize_url: {url}/authorize
      token_url: {url}/token
      issuer: {url}
      iss_required: true
      client_auth: basic
      scopes: {{people.read: Reads people, people.write: Changes people}}
      callback_keep: {{tenant: {{param: tenant, pattern: "[a-z]+"}}}}
      keep: {{region: {{path: region, pattern: "[a-z]{{2}}"}}}}
    test: *test
  code_key:
    oauth2: {{authorize_url: "{url}/authorize", token_url: "{url}/token", client_auth: private_key_jwt}}
    test: *test
  code_form:
    oauth2: {{authorize_url: "{url}/authorize", token_url: "{url}/token"}}
    fields: {{subdomain: {{pattern: "[a-z]+"}}}}
    test: *test
  machine:
    oauth2: {{grant: client_credentials, token_url: "{url}/token", client_auth: post}}
    test: *test
  anywhere:
    bearer: ${{api_key}}
    base_url: ${{base_url}}
    fields:
      base_url: {{pattern: 'https?://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?'}}
      api_key: {{secret: true}}
    test: *test
"""
BLOCKED = """\
connector: blocked
title: Blocked
category: other
base_url: https://10.0.0.1
auth:
  code:
    oauth2: {authorize_url: "https://login.example/authorize", token_url: "https://10.0.0.1/token"}
"""


@pytest.fixture(scope="session")
def doctor_ports() -> tuple[int, ...]:
    """The provider's port, and four for servers of one test."""
    return tuple(free_port() for _ in range(5))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def doctor_hub(
    doctor_ports: tuple[int, ...], ports: Ports, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "ca.pem").write_bytes(authority.pem)
    connectors = folder / "connectors"
    connectors.mkdir()
    (connectors / "doctor.yaml").write_text(CONNECTOR.format(url=f"http://127.0.0.1:{doctor_ports[0]}"))
    (connectors / "blocked.yaml").write_text(BLOCKED)
    oidc = oidc_connector(f"http://127.0.0.1:{ports.oidc}")
    (connectors / "oidc-provider.yaml").write_text(oidc)
    (connectors / "oidc-other.yaml").write_text(oidc.replace("connector: oidc-provider", "connector: oidc-other"))
    allow = [f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (*doctor_ports, ports.oidc)]
    with Hub(
        folder,
        free_port(),
        egress_allow=",".join([*allow, "255.255.255.255:9"]),
        connectors_dir=connectors,
        env={"SSL_CERT_FILE": str(folder / "ca.pem")},
    ) as hub:
        yield hub


@pytest.fixture(scope="session")
def _provider(doctor_ports: tuple[int, ...]) -> Iterator[Provider]:
    with providers.running(doctor_ports[0]) as running:
        yield running


@pytest.fixture
def upstream(_provider: Provider) -> Provider:
    _provider.clear()
    return _provider


@pytest.fixture
def doctor(doctor_hub: Hub, upstream: Provider) -> Project:
    return doctor_hub.new_project()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return tmp_path
