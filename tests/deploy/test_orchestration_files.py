"""The systemd units, the manifests for Kubernetes and the configurations of proxies: whole, hardened, true to the code."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooring import __version__, settings
from mooring.settings import FILED
from tests.deploy.containerfile import DEPLOY
from tests.deploy.test_container_files import parses

UNITS = DEPLOY / "systemd"
MANIFESTS = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((MANIFESTS / name).read_text())
]


class Unit(configparser.RawConfigParser):
    """A unit file: names keep their case and may come more than once."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None, comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        self.read(path)

    def values(self, name: str) -> list[str]:
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{name}=")]


@pytest.mark.parametrize("name", ["mooring.service", "mooring-backup.service"])
def test_a_unit_gives_the_service_nothing_that_it_does_not_need(name: str) -> None:
    unit = Unit(UNITS / name)
    service = unit["Service"]
    for switch in (
        "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules",
        "ProtectControlGroups", "RestrictSUIDSGID", "LockPersonality", "RestrictNamespaces", "DynamicUser",
    ):  # fmt: skip
        assert service[switch] == "yes", switch
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""
    assert service["LoadCredential"] == "master-keys:/etc/mooring/master-keys"
    assert service["StateDirectoryMode"] == "0700" and service["UMask"] == "0077" and service["LimitCORE"] == "0"
    assert service["SystemCallFilter"] and unit.values("SystemCallFilter") == ["@system-service", "~@privileged"]
    environment = dict(line.partition("=")[::2] for line in unit.values("Environment"))
    assert settings.unknown(environment) == []
    assert environment["MOORING_MASTER_KEY_FILE"] == "%d/master-keys"
    program, *arguments = service["ExecStart"].split()
    assert program == "/opt/mooring/bin/mooring"
    parses(arguments)


def test_the_service_comes_back_and_gets_its_time_to_stop() -> None:
    service = Unit(UNITS / "mooring.service")["Service"]
    assert service["Restart"] == "always" and int(service["TimeoutStopSec"]) > 15
    assert service["KillMode"] == "mixed"  # the supervisor is told, and stops the rest in order


def test_the_example_of_settings_loads() -> None:
    lines = [line for line in (UNITS / "mooring.env").read_text().splitlines() if not line.startswith("#")]
    given = dict(line.partition("=")[::2] for line in lines)
    assert settings.unknown(given) == [] and settings.load(given).public_url == "https://hub.example.com"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units_and_finds_them_closed(tmp_path: Path) -> None:
    python = Path(sys.executable)
    for path in UNITS.glob("mooring*.*"):
        text = path.read_text().replace("/opt/mooring/bin/mooring", str(python.with_name("mooring")))
        (tmp_path / path.name).write_text(text)
    for name in ("mooring.service", "mooring-backup.service", "mooring-backup.timer"):
        verdict = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        about_us = [line for line in verdict.stderr.splitlines() if "mooring" in line]
        assert verdict.returncode == 0 and not about_us, verdict.stderr
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(tmp_path / "mooring.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert exposed.returncode == 0, exposed.stdout[-500:]  # 20 of 100 at most


def pods() -> list[tuple[str, dict[str, Any]]]:
    """The templates of pods, by the name of what makes them."""
    found = []
    for item in OBJECTS:
        if item["kind"] == "Deployment":
            found.append((item["metadata"]["name"], item["spec"]["template"]))
        if item["kind"] == "CronJob":
            found.append((item["metadata"]["name"], item["spec"]["jobTemplate"]["spec"]["template"]))
    return found


def one(kind: str) -> dict[str, Any]:
    (found,) = [item for item in OBJECTS if item["kind"] == kind]
    return found


def test_every_manifest_is_listed_and_whole() -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert listed == {path.name for path in MANIFESTS.iterdir()}
    for item in OBJECTS:
        assert item["apiVersion"] and item["kind"] and item["metadata"]["name"].startswith("mooring")
    assert len(pods()) == 2
    assert {image["newTag"] for image in KUSTOMIZATION["images"]} == {__version__}
    images = {c["image"] for _, pod in pods() for c in pod["spec"]["containers"]}
    assert images == {image["name"] for image in KUSTOMIZATION["images"]}


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_keeps_the_restricted_standard(name: str, pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["envFrom"] == [{"configMapRef": {"name": "mooring"}}] and "env" not in container
        parses(container["args"])


def test_the_settings_of_the_pods_load_with_the_files_of_the_secret(tmp_path: Path) -> None:
    data = one("ConfigMap")["data"]
    assert settings.unknown(data) == [] and not set(data) & (FILED | {"MOORING_MASTER_KEYS"})
    secret = yaml.safe_load((MANIFESTS / "secret.example.yaml").read_text())
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("mooring", KUSTOMIZATION["namespace"])
    for key, value in secret["stringData"].items():
        (tmp_path / key).write_text(value)
    mounted = "/run/secrets/mooring/"
    files = {name: value.removeprefix(mounted) for name, value in data.items() if name.endswith("_FILE")}
    assert set(files.values()) == set(secret["stringData"])
    loaded = settings.load({**data, **{name: str(tmp_path / file) for name, file in files.items()}})
    assert loaded.database_url and loaded.redis_url and loaded.trusted_proxies


def test_what_selects_finds_the_pods_and_ports_have_names() -> None:
    deployment = one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        one("Service")["spec"]["selector"],
        one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    assert one("Service")["spec"]["ports"][0]["targetPort"] in ports
    backend = one("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {
        "name": one("Service")["metadata"]["name"],
        "port": {"name": one("Service")["spec"]["ports"][0]["name"]},
    }
    assert one("PodDisruptionBudget")["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 5 + 15


def test_the_way_out_leaves_private_ranges_alone() -> None:
    policy = one("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (block,) = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])


def test_the_configuration_of_traefik_is_whole() -> None:
    http = yaml.safe_load((DEPLOY / "proxy" / "traefik.yaml").read_text())["http"]
    for router in http["routers"].values():
        assert router["service"] in http["services"] and router["rule"] == "Host(`hub.example.com`)"
    for service in http["services"].values():
        assert service["loadBalancer"]["serversTransport"] in http["serversTransports"]
        assert service["loadBalancer"]["healthCheck"]["path"] == "/readyz"
