"""deploy/compose.yaml: valid, closed by default, and each service has only what it needs."""

import re
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from helpers.manifests import DEPLOY, LEASES, SECRETS, VARIABLE, compose, filled_site, read_site

COMPOSE = compose(filled_site())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RAY = {"ray-head", "ray-worker", "ray-gpu-worker", "worker"}
OURS = RAY | {"prefect-server", "setup"}
SCHEMA = jsonschema.Draft202012Validator(get_builtin_schema("vendor.compose-spec"))


def holders(secret: str) -> set[str]:
    """Services whose environment contains a secret."""
    value = filled_site()[secret]
    return {name for name, service in SERVICES.items() if value in str(service.get("environment"))}


def test_it_is_a_compose_file() -> None:
    SCHEMA.validate(COMPOSE)


@pytest.mark.parametrize("key", ["imagee", "ports_"])
def test_the_schema_refuses_an_unknown_key(key: str) -> None:
    assert not SCHEMA.is_valid(COMPOSE | {"services": SERVICES | {"s3": SERVICES["s3"] | {key: "x"}}})


def test_no_variable_is_left() -> None:
    assert not VARIABLE.search(str(COMPOSE))


def test_every_use_of_a_secret_requires_it() -> None:
    uses = VARIABLE.findall((DEPLOY / "compose.yaml").read_text())
    assert {name for name, operator, _ in uses if name in SECRETS and operator != ":?"} == set()


@pytest.mark.parametrize("secret", SECRETS)
def test_an_empty_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=secret):
        compose(filled_site() | {secret: ""})


def test_each_service_gets_only_the_secrets_it_needs() -> None:
    store = {"s3", "ray-worker", "ray-gpu-worker", "worker", "setup"}
    assert {secret: holders(secret) for secret in SECRETS} == {
        "POSTGRES_PASSWORD": {"postgres", "prefect-server"},
        "PREFECT_AUTH": {"prefect-server", "worker", "setup"},
        "RAY_AUTH_TOKEN": RAY,
        "AWS_ACCESS_KEY_ID": store,
        "AWS_SECRET_ACCESS_KEY": store,
    }


def test_secrets_are_nowhere_but_in_the_environment() -> None:
    without = {
        name: {key: part for key, part in each.items() if key != "environment"} for name, each in SERVICES.items()
    }
    assert "secret-of" not in str(COMPOSE | {"services": without})


def test_ports_are_published_on_this_machine_only() -> None:
    example = compose(filled_site() | {"BIND_ADDRESS": read_site()["BIND_ADDRESS"]})
    published = {name: service["ports"] for name, service in example["services"].items() if "ports" in service}
    assert published == {
        "prefect-server": ["127.0.0.1:4200:4200"],
        "s3": ["127.0.0.1:8333:8333"],
        "ray-head": ["127.0.0.1:8265:8265"],
    }
    assert compose({**filled_site(), "BIND_ADDRESS": ""})["services"]["s3"]["ports"] == ["127.0.0.1:8333:8333"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_limited_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"])
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert ("healthcheck" in service) is (name != "setup")
    assert service["restart"] == ("no" if name == "setup" else "unless-stopped")


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_happen(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert how["condition"] == "service_completed_successfully" and SERVICES[other]["restart"] == "no"
        assert "profiles" not in SERVICES[other]


def test_members_of_the_ray_cluster_agree() -> None:
    for name in RAY:
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert name == "ray-head" or environment["RAY_HEAD"] == "ray-head:6379"
        # Ray announces one address: with two networks it may be one that others cannot reach.
        assert SERVICES[name]["networks"] == ["cluster"]
    images = {SERVICES[name]["image"] for name in OURS - {"ray-gpu-worker"}}
    assert images == {filled_site()["SPECDYN_IMAGE"]}


def test_only_the_server_reaches_the_database() -> None:
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert {name for name, each in SERVICES.items() if "database" in each["networks"]} == {"postgres", "prefect-server"}
    assert SERVICES["postgres"]["networks"] == ["database"]


def test_gpus_are_asked_for_by_the_profile_alone() -> None:
    asking = {name for name, each in SERVICES.items() if "devices" in str(each["deploy"])}
    assert asking == {name for name, each in SERVICES.items() if "profiles" in each} == {"ray-gpu-worker"}
    (device,) = SERVICES["ray-gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "15", "capabilities": ["gpu"]}
    assert SERVICES["ray-gpu-worker"]["image"] == filled_site()["SPECDYN_CUDA_IMAGE"]


def test_addresses_name_services_and_their_ports() -> None:
    addresses = {
        match
        for service in SERVICES.values()
        for value in service.get("environment", {}).values()
        for match in re.findall(r"(?:@|http://|^)([a-z][a-z0-9-]*):(\d+)", str(value))
    }
    assert addresses == {("prefect-server", "4200"), ("postgres", "5432"), ("ray-head", "6379"), ("s3", "8333")}
    assert {name for name, _ in addresses} <= set(SERVICES)


def test_named_volumes_are_declared_and_used() -> None:
    named = {volume.split(":")[0] for each in SERVICES.values() for volume in each.get("volumes", ()) if ":" in volume}
    assert named == set(COMPOSE["volumes"])


def test_places_that_runs_hold_outlive_the_server() -> None:
    server = SERVICES["prefect-server"]
    assert server["environment"].items() >= LEASES.items()
    assert "prefect:/data" in server["volumes"]
