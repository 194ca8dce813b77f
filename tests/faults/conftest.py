"""One hub and one faulty provider for the tests of this folder that need no kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.faults.matrix import FIRST_BYTE
from tests.faults.provider import FaultyProvider, black_hole
from tests.hub import Hub
from tests.kit.test_http import Authority
from tests.servers.ports import free_port

CONNECTOR = f"""\
connector: faulty
title: Faulty
category: iam
base_url: ${{origin}}
timeouts: {{first_byte: {FIRST_BYTE}}}
auth:
  code: &code
    oauth2: &oauth2
      authorize_url: ${{origin}}/authorize
      token_url: ${{origin}}/token
    app_fields: &app
      origin: {{pattern: 'https?://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?/[a-z0-9_-]+'}}
    test: &test {{get: /me, identity: id}}
  machine:
    oauth2: {{grant: client_credentials, token_url: "${{origin}}/token"}}
    app_fields: *app
    test: *test
  key:
    bearer: ${{api_key}}
    fields: {{api_key: {{secret: true}}}}
    app_fields: *app
    test: *test
"""


MODELLED = """\
connector: modelled
title: Modelled
category: iam
base_url: ${origin}/${cell}
auth:
  key:
    bearer: ${api_key}
    fields: {cell: &cell {pattern: '[a-z0-9-]+'}, api_key: {secret: true}}
    app_fields: &app {origin: {pattern: 'https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?'}}
    test: &test {get: /me, identity: id}
  code:
    oauth2:
      authorize_url: ${origin}/authorize
      token_url: ${origin}/${cell}/token
    fields: {cell: *cell}
    app_fields: *app
    test: *test
"""


@dataclass
class World:
    """The hub, the provider, and the addresses of faults that lie elsewhere."""

    hub: Hub
    provider: FaultyProvider
    port: int
    addresses: dict[str, str]

    def origin(self, cell: str) -> str:
        """The base URL of one cell."""
        return f"http://127.0.0.1:{self.port}/{cell}"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "connectors").mkdir()
    (folder / "connectors" / "faulty.yaml").write_text(CONNECTOR)
    unprobed = CONNECTOR.replace("connector: faulty", "connector: unprobed\nprobe: false")
    (folder / "connectors" / "unprobed.yaml").write_text(unprobed)
    (folder / "connectors" / "modelled.yaml").write_text(MODELLED)
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    plain, wrong, ended, good, closed = (free_port() for _ in range(5))
    with ExitStack() as stack:
        hole = stack.enter_context(black_hole())
        provider = FaultyProvider(
            {
                plain: None,
                wrong: authority.context(folder, "elsewhere.test"),
                ended: authority.context(folder, "localhost", days=-1),
                good: authority.context(folder, "localhost"),
            }
        )
        stack.callback(provider.stop)
        allowed = [f"127.0.0.1:{p}" for p in (plain, closed, hole)] + [f"localhost:{p}" for p in (wrong, ended, good)]
        hub = stack.enter_context(
            Hub(
                folder / "hub",
                free_port(),
                egress_allow=",".join(allowed),
                connectors_dir=folder / "connectors",
                env={"SSL_CERT_FILE": str(folder / "ca.pem"), "MOORING_LOG_LEVEL": "info"},
            )
        )
        addresses = {
            "refused": f"http://127.0.0.1:{closed}",
            "black_hole": f"http://127.0.0.1:{hole}",
            "tls_name": f"https://localhost:{wrong}",
            "tls_expired": f"https://localhost:{ended}",
            "dns": "https://nowhere.invalid",
            "tls_good": f"https://localhost:{good}",
        }
        yield World(hub, provider, plain, addresses)
