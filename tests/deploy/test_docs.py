"""docs/deploy.md names files that exist and every port that something listens on."""

import re

import pytest

from helpers.manifests import DEPLOY, ROOT, Resource, compose, filled_site, overlay, pods

TEXT = (ROOT / "docs" / "deploy.md").read_text()
PORT = re.compile(r"\b\d{4,5}\b")


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(title: str) -> set[str]:
    """Ports in the first column of a section's table."""
    return {port for row in re.findall(r"^\| ([^|]+)\|", section(title), re.MULTILINE) for port in PORT.findall(row)}


def test_files_exist() -> None:
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", TEXT)) - {"deploy/site.env", "deploy/kubernetes/site/site.env"}
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert re.search(rf"^## {target[1:]}$", TEXT, re.MULTILINE | re.IGNORECASE)
        else:
            assert (ROOT / "docs" / target).exists()


def test_ports_of_compose_are_listed() -> None:
    services: dict[str, Resource] = compose(filled_site())["services"]
    published = {port.rpartition(":")[2] for service in services.values() for port in service.get("ports", ())}
    addressed = {port for each in services.values() for port in re.findall(r":(\d{4,5})\b", str(each))}
    assert published | addressed <= rows("Compose")


def test_ports_of_kubernetes_are_listed() -> None:
    text = str([template for _, template in pods(overlay("gpu"))])
    assert set(re.findall(r"'(?:containerPort|port)': (\d+)", text)) <= rows("Kubernetes")


@pytest.mark.parametrize("command", re.findall(r"^ray start (.*?)\s*#", TEXT, re.MULTILINE))
def test_ports_of_two_machines_are_listed(command: str) -> None:
    (ports,) = re.findall(r'^PORTS="(.*)"$', TEXT, re.MULTILINE)
    given = {int(port) for port in re.findall(r"port=(\d+)", command.replace("$PORTS", ports))}
    listed = {int(port) for port in rows("Two machines")}
    ranges = [(6380, 6383), (11000, 11999)]
    assert {port for port in given - listed if not any(low <= port <= high for low, high in ranges)} == set()
    assert 6384 in given & listed
    assert {port for pair in ranges for port in pair} <= given & listed


def test_the_operator_is_one_that_can_be_named() -> None:
    assert re.search(r"kuberay-operator --version 1\.\d+\.\d+ ", section("Kubernetes"))
    assert (DEPLOY / "kubernetes" / "base" / "ray-cluster.yaml").exists()
