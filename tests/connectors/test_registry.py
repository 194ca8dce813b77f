"""The registry: the shipped catalogue and the operator's folder."""

from __future__ import annotations

import pytest

from mooring.connectors import loader
from mooring.connectors import registry as registries
from mooring.connectors.registry import CATALOG, load_registry
from mooring.errors import ConfigurationError

ACME = """\
connector: {key}
title: Acme
category: other
base_url: https://api.acme.com
auth:
  key: {{bearer: "${{api_key}}", fields: {{api_key: {{secret: true}}}}}}
"""


def test_it_is_an_immutable_sorted_mapping():
    registry = load_registry()
    assert registry.own == 0
    assert list(registry) == sorted(registry)
    assert registry.get("redmine") is registry["redmine"]
    assert registry.get("nothing") is None
    assert registry["redmine"].builtin
    with pytest.raises(TypeError):
        registry["x"] = registry["redmine"]  # type: ignore[index]


async def test_files_of_the_catalogue_are_read_when_they_are_asked_for(monkeypatch):
    read, load_file = [], loader.load_file
    monkeypatch.setattr(loader, "load_file", lambda path, builtin: read.append(path.stem) or load_file(path, builtin))
    registry = load_registry()
    assert len(registry) == len(list(CATALOG.glob("*.yaml"))) and "hubspot" in registry and "nothing" not in registry
    assert read == []
    assert registry["hubspot"] is registry["hubspot"]
    assert read == ["hubspot"]
    await registry.complete()
    assert sorted(read) == list(registry)


async def test_a_damaged_file_of_the_catalogue_spoils_no_other(tmp_path, monkeypatch):
    (tmp_path / "acme.yaml").write_text(ACME.format(key="acme"))
    (tmp_path / "bolt.yaml").write_text("tilte: b\n")
    (tmp_path / "crux.yaml").write_text(ACME.format(key="acme"))
    monkeypatch.setattr(registries, "CATALOG", tmp_path)
    registry = load_registry()
    assert registry["acme"].title == "Acme"
    with pytest.raises(ConfigurationError, match="unknown key `tilte`"):
        registry["bolt"]
    with pytest.raises(ConfigurationError, match="must be called `acme`"):
        registry["crux"]


def test_the_operators_folder_adds_files_and_folders(tmp_path):
    (tmp_path / "acme.yaml").write_text(ACME.format(key="acme"))
    (tmp_path / "bolt").mkdir()
    (tmp_path / "bolt" / "connector.yaml").write_text(ACME.format(key="bolt"))
    (tmp_path / "bolt" / "bolt.svg").write_text("<svg/>")
    (tmp_path / "bolt" / "notes.yaml").write_text("anything: else")
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / ".hidden.yaml").write_text("anything: else")
    registry = load_registry(tmp_path)
    assert set(registry) - set(load_registry()) == {"acme", "bolt"}
    assert registry.own == 2
    assert not registry["acme"].builtin
    assert registry["acme"].source == str(tmp_path / "acme.yaml")
    assert registry["bolt"].logo == str(tmp_path / "bolt" / "bolt.svg")


def test_a_shipped_key_can_not_be_taken(tmp_path):
    (tmp_path / "hubspot.yaml").write_text(ACME.format(key="hubspot"))
    with pytest.raises(
        ConfigurationError, match=r"hubspot\.yaml:1:1: the key `hubspot` belongs to a shipped connector"
    ):
        load_registry(tmp_path)


def test_a_shipped_key_can_not_be_taken_under_another_file_name(tmp_path):
    (tmp_path / "mine.yaml").write_text(ACME.format(key="hubspot"))
    with pytest.raises(ConfigurationError, match="belongs to a shipped connector"):
        load_registry(tmp_path)


def test_two_own_connectors_can_not_share_a_key(tmp_path):
    (tmp_path / "acme.yaml").write_text(ACME.format(key="acme"))
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "connector.yaml").write_text(ACME.format(key="acme"))
    with pytest.raises(ConfigurationError, match="the key `acme` belongs to"):
        load_registry(tmp_path)


def test_the_file_is_called_as_the_key(tmp_path):
    (tmp_path / "other.yaml").write_text(ACME.format(key="acme"))
    with pytest.raises(ConfigurationError, match="must be called `acme`"):
        load_registry(tmp_path)


def test_the_faults_of_all_files_are_listed(tmp_path):
    (tmp_path / "a.yaml").write_text("connector: a\n")
    (tmp_path / "b.yaml").write_text("tilte: b\n")
    with pytest.raises(ConfigurationError) as caught:
        load_registry(tmp_path)
    assert "a.yaml:1:1: `title` is missing" in str(caught.value)
    assert "b.yaml:1:1: unknown key `tilte`" in str(caught.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"MOORING_CONNECTORS_DIR: .*nowhere is not a folder"):
        load_registry(tmp_path / "nowhere")


# --- versions


def version(of: str, number: str, **more: str) -> str:
    return ACME.format(key=of).replace("title: Acme", f"title: Acme {number}\nversion: {number}")


@pytest.fixture
def versions(tmp_path):
    (tmp_path / "acme.yaml").write_text(version("acme", "2.1.0"))
    for number in ("1.2.0", "1.2.11", "1.9.3", "2.0.0"):
        (tmp_path / f"acme@{number}.yaml").write_text(version("acme", number))
    (tmp_path / "bolt").mkdir()
    (tmp_path / "bolt" / "connector.yaml").write_text(version("bolt", "1.1.0"))
    (tmp_path / "bolt@1.0.0").mkdir()
    (tmp_path / "bolt@1.0.0" / "connector.yaml").write_text(version("bolt", "1.0.0"))
    return load_registry(tmp_path)


@pytest.mark.parametrize(
    ("pin", "found"),
    [
        (None, "2.1.0"),
        ("latest", "2.1.0"),
        ("2.x.x", "2.1.0"),
        ("2.0.x", "2.0.0"),
        ("1.x.x", "1.9.3"),
        ("1.2.x", "1.2.11"),
        ("1.2.0", "1.2.0"),
        ("1.2.1", None),
        ("3.x.x", None),
        ("1", "1.9.3"),
    ],
)
def test_a_pin_takes_the_newest_version_that_fits(versions, pin, found):
    connector = versions.pinned("acme", pin)
    assert (connector and connector.version) == found
    assert connector is None or connector.title == f"Acme {found}"


def test_older_versions_are_no_connectors_of_their_own(versions):
    assert versions["acme"].version == "2.1.0" and versions.own == 2
    assert not [key for key in versions if "@" in key]
    assert versions.versions("acme") == ["2.1.0", "2.0.0", "1.9.3", "1.2.11", "1.2.0"]
    assert versions.versions("bolt") == ["1.1.0", "1.0.0"] and versions.pinned("bolt", "1.0.x").title == "Acme 1.0.0"
    assert versions.versions("nothing") == [] and versions.pinned("nothing", "1.x.x") is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("acme@1.0.0.yaml", version("acme", "1.0.1"), "must be called `acme@1.0.1`"),
        ("acme@3.0.0.yaml", version("acme", "3.0.0"), "has to be newer than 3.0.0"),
        ("crux@1.0.0.yaml", version("crux", "1.0.0"), "has to stand in `crux.yaml`"),
        ("hubspot@0.9.0.yaml", version("hubspot", "0.9.0"), "belongs to a shipped connector"),
    ],
)
def test_versions_that_can_not_be_are_told(tmp_path, name, text, words):
    (tmp_path / "acme.yaml").write_text(version("acme", "2.1.0"))
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        load_registry(tmp_path)


async def test_the_catalogue_may_hold_older_versions(tmp_path, monkeypatch):
    (tmp_path / "acme.yaml").write_text(version("acme", "2.0.0"))
    (tmp_path / "acme@1.0.0.yaml").write_text(version("acme", "1.0.0"))
    monkeypatch.setattr(registries, "CATALOG", tmp_path)
    registry = await load_registry().complete()
    assert list(registry) == ["acme"] and registry["acme"].version == "2.0.0"
    assert registry.pinned("acme", "1.x.x").title == "Acme 1.0.0" and registry.pinned("acme", "1.x.x").builtin


def test_replacing_changes_everything_at_once(versions, tmp_path):
    (tmp_path / "acme.yaml").write_text(version("acme", "3.0.0"))
    (tmp_path / "acme@1.2.0.yaml").unlink()
    edition = versions.edition
    versions.replace(load_registry(tmp_path))
    assert versions.edition == edition + 1 and versions["acme"].version == "3.0.0"
    assert versions.pinned("acme", "1.2.0") is None


# --- a folder with its actions in files of their own


@pytest.fixture
def parted(tmp_path):
    folder = tmp_path / "acme"
    (folder / "actions").mkdir(parents=True)
    (folder / "connector.yaml").write_text(ACME.format(key="acme") + "actions:\n  ping: {get: /ping}\n")
    (folder / "actions" / "people.yaml").write_text("list_people: {get: /people}\nget_person: {get: '/people/{id}'}\n")
    (folder / "actions" / "jobs.yaml").write_text("# jobs\nlist_jobs:\n  get: /jobs\n")
    return folder


def test_actions_of_a_folder_are_put_together(parted):
    connector = load_registry(parted.parent)["acme"]
    assert sorted(connector.actions) == ["get_person", "list_jobs", "list_people", "ping"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("list_people: {get: /other}\n", r"jobs\.yaml:1:1|people\.yaml:1:1: the action `list_people` stands in"),
        ("ping: {get: /other}\n", r"jobs\.yaml:1:1: the action `ping` stands in connector\.yaml already"),
        ("list_jobs:\n  gte: /jobs\n", r"jobs\.yaml:2:3: unknown key `gte`"),
        ("list_jobs:\n  get: '/jobs?x=${inptu.a}'\n", r"jobs\.yaml:2:8: `\$\{inptu\}` is not known"),
        ("- a\n", r"jobs\.yaml:1:1: a file of actions is a mapping"),
        ("a: [\n", r"jobs\.yaml:2:1: not YAML"),
    ],
)
def test_faults_are_told_in_the_file_that_they_stand_in(parted, text, words):
    (parted / "actions" / "jobs.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        load_registry(parted.parent)
