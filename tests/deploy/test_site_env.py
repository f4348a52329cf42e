"""deploy/site.env.example holds every value that a site sets, and make-site-env.sh fills in the secrets."""

import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from helpers.manifests import DEPLOY, SECRETS, VARIABLE, environment, overlay, pods, read_site

COMPOSE_KEYS = {match[0] for match in VARIABLE.findall((DEPLOY / "compose.yaml").read_text())}
SITE = yaml.safe_load((DEPLOY / "kubernetes" / "site" / "kustomization.yaml").read_text())


def kubernetes_keys() -> set[str]:
    replaced = {each["source"]["fieldPath"].removeprefix("data.") for each in SITE["replacements"]}
    referenced = {
        value.removeprefix("secret:")
        for _, template in pods(overlay("gpu"))
        for container in template["spec"]["containers"]
        for value in environment(container).values()
        if value.startswith("secret:")
    }
    return replaced | referenced


def test_every_value_that_is_asked_for_is_in_the_example_and_no_other() -> None:
    assert read_site().keys() == COMPOSE_KEYS | kubernetes_keys()


def test_the_example_has_values_but_no_secrets() -> None:
    site = read_site()
    assert {key for key, value in site.items() if not value} == set(SECRETS)


def test_compose_and_kustomize_read_the_example_alike() -> None:
    lines = (DEPLOY / "site.env.example").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"(#.*|[A-Z0-9_]+=[^\s'\"$#]*)?", line)] == []


def test_every_value_is_explained() -> None:
    paragraph = re.compile(r"# .+\n(?:[A-Z0-9_]+=.*\n)+")
    explained = {key for block in paragraph.findall((DEPLOY / "site.env.example").read_text()) for key in _keys(block)}
    assert explained == read_site().keys()


def _keys(block: str) -> list[str]:
    return re.findall(r"^([A-Z0-9_]+)=", block, re.MULTILINE)


def made(path: Path) -> dict[str, str]:
    subprocess.run([DEPLOY / "make-site-env.sh", path], check=True, capture_output=True)
    return read_site(path)


def test_a_new_file_has_fresh_secrets_that_only_its_owner_reads(tmp_path: Path) -> None:
    first, second = made(tmp_path / "one.env"), made(tmp_path / "two.env")
    example = read_site()
    for key, value in first.items():
        if key in SECRETS:
            assert len(value) >= 20 and value != second[key]
        else:
            assert value == second[key] == example[key]
    assert first["PREFECT_AUTH"].startswith("specdyn:")
    assert stat.S_IMODE((tmp_path / "one.env").stat().st_mode) == 0o600


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "site.env").write_text("mine")
    with pytest.raises(subprocess.CalledProcessError):
        made(tmp_path / "site.env")
    assert (tmp_path / "site.env").read_text() == "mine"


@pytest.mark.parametrize("path", ["site.env", "kubernetes/site/site.env"])
def test_git_ignores_the_filled_file(path: str) -> None:
    ignored = subprocess.run(["git", "check-ignore", "--quiet", DEPLOY / path], cwd=DEPLOY, check=False)
    assert ignored.returncode == 0
