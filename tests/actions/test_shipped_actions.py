"""The tests that stand beside the catalogue's actions, and that none is without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mooring.actions.listing import runnable
from mooring.actions.trial import try_connector, untested
from mooring.connectors.loader import load_file
from mooring.connectors.registry import load_registry

REGISTRY = load_registry()
WITH_ACTIONS = [key for key, connector in REGISTRY.items() if any(runnable(connector))]
TRIED_FOR_REAL = {"redmine", "sandbox"}  # against the real system, in test_actions_api.py


def test_the_most_used_systems_have_actions() -> None:
    assert len(WITH_ACTIONS) >= 12
    assert all(len(list(runnable(REGISTRY[key]))) >= 7 for key in WITH_ACTIONS)


@pytest.mark.parametrize("key", WITH_ACTIONS)
async def test_the_actions_do_what_their_tests_say(key: str) -> None:
    outcomes = await try_connector(REGISTRY[key])
    assert [o for o in outcomes if o.problem is not None] == []
    assert key in TRIED_FOR_REAL or list(untested(REGISTRY[key])) == []


FILE = """\
connector: shop
title: Shop
category: other
base_url: https://shop.example
auth: {key: {bearer: "${api_key}", fields: {api_key: {secret: true}}}}
actions:
  get_order:
    get: "/orders/{id}"
    tests:
      - {name: right, input: {id: "1"}, replies: [{match: GET /orders/*, body: {id: 1}}], expect: {id: 1}}
      - {name: wrong data, input: {id: "1"}, replies: [{body: {id: 2}}], expect: {id: 1}}
      - {name: no reply, input: {id: "1"}, replies: [{match: GET /other}], expect: {id: 1}}
      - {name: bad input, expect: {error: ValidationError}}
      - {name: other request, input: {id: a/b}, replies: [{body: {}}], expect: {requests: [GET /orders/a/b]}}
"""


async def test_a_test_that_does_not_hold_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(FILE)
    outcomes = {o.test: o.problem for o in await try_connector(load_file(tmp_path / "shop.yaml", builtin=False))}
    assert outcomes["right"] is None and outcomes["bad input"] is None
    assert "expected" in str(outcomes["wrong data"]) and "got" in str(outcomes["wrong data"])
    assert "NoReplyError" in str(outcomes["no reply"])
    assert "GET /orders/a%2Fb" in str(outcomes["other request"])


def test_the_command_ends_with_1_when_a_test_fails(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(FILE)
    command = [sys.executable, "-m", "mooring", "connectors", "test"]
    env = {"MOORING_CONNECTORS_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*command, "shop"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "wrong data" in done.stderr and "2 tests passed, 3 failed" in done.stdout
    done = subprocess.run([*command, "github"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "0 failed" in done.stdout
    done = subprocess.run([*command, "nosuch"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nosuch" in done.stderr
