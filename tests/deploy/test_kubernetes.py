"""deploy/kubernetes: valid for the published schemas, closed by default, and consistent with itself."""

import base64
import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from helpers.manifests import (
    DEPLOY,
    LEASES,
    ROOT,
    SECRETS,
    Resource,
    environment,
    filled_site,
    overlay,
    pods,
    read_site,
)
from specdyn.flows.engine.settings import PATIENCE

OVERLAYS = ("cpu", "gpu")
GPU = overlay("gpu")
PODS = dict(pods(GPU))
RAY = {"specdyn-ray/head", "specdyn-ray/cpu", "specdyn-ray/gpu", "specdyn-worker"}
OURS = RAY | {"prefect-server", "specdyn-setup"}
KUBERNETES = kubernetes_validate.latest_version()
RAY_CLUSTER = jsonschema.Draft202012Validator(
    json.loads((ROOT / "tests" / "fixtures" / "kuberay" / "raycluster.json").read_text())
)
RESOURCES = [
    pytest.param(resource, id=f"{name}-{resource['kind']}-{resource['metadata']['name']}")
    for name in OVERLAYS
    for resource in overlay(name)
]


def found(kind: str, name: str, resources: list[Resource] = GPU) -> Resource:
    (resource,) = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return resource


def validate(resource: Resource) -> None:
    """Refuse what the API server refuses."""
    if resource["kind"] != "RayCluster":
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        return
    RAY_CLUSTER.validate(resource)
    options = resource["spec"].get("autoscalerOptions", {})
    container = {key: options[key] for key in ("env", "resources", "securityContext", "volumeMounts") if key in options}
    templates = [template for _, template in pods([resource])]
    for template in [*templates, {"spec": {"containers": [{"name": "autoscaler", **container}]}}]:
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_is_valid(resource: Resource) -> None:
    validate(resource)


def broken(kind: str, name: str, path: str, value: Any) -> Resource:
    resource = copy.deepcopy(found(kind, name))
    *parts, last = path.split(".")
    at: Any = resource
    for part in parts:
        at = at[int(part) if isinstance(at, list) else part]
    at[last] = value
    return resource


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Deployment", "prefect-server", "spec.replicass", 1),
        ("NetworkPolicy", "dns", "spec.policyTypes", "Egress"),
        ("PersistentVolumeClaim", "specdyn-data", "spec.accessModes", "ReadWriteOnce"),
        ("RayCluster", "specdyn-ray", "spec.enableInTreeAutoscaler", True),
        ("RayCluster", "specdyn-ray", "spec.workerGroupSpecs.0.maxReplicas", "4"),
        ("RayCluster", "specdyn-ray", "spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("RayCluster", "specdyn-ray", "spec.headGroupSpec.template.spec.containers.0.imagee", "x"),
        ("RayCluster", "specdyn-ray", "spec.autoscalerOptions.env", [{"value": "without a name"}]),
    ],
)
def test_a_broken_resource_is_refused(kind: str, name: str, path: str, value: Any) -> None:
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(broken(kind, name, path, value))


@pytest.mark.parametrize("name", OVERLAYS)
def test_kustomize_renders_the_same(name: str, tmp_path: Path) -> None:
    """Where kubectl is installed; the other tests do with their own reading of the same files."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed")
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    site = "".join(f"{key}={value}\n" for key, value in filled_site().items())
    (tmp_path / "kubernetes" / "site" / "site.env").write_text(site)
    command = [kubectl, "kustomize", str(tmp_path / "kubernetes" / "overlays" / name)]
    real = yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {_key(each): each for each in real} == {_key(each): each for each in overlay(name)}


def _key(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def test_every_file_is_listed() -> None:
    base = DEPLOY / "kubernetes" / "base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in base.iterdir() if path.name != "kustomization.yaml")


def test_the_overlays_differ_by_the_gpu_workers() -> None:
    groups = {
        name: [
            group["groupName"]
            for group in found("RayCluster", "specdyn-ray", overlay(name))["spec"]["workerGroupSpecs"]
        ]
        for name in OVERLAYS
    }
    assert groups == {"cpu": ["cpu"], "gpu": ["cpu", "gpu"]}


def test_the_values_of_the_site_arrive() -> None:
    site = filled_site()
    images = {name: template["spec"]["containers"][0]["image"] for name, template in PODS.items() if name in OURS}
    assert images == dict.fromkeys(OURS, site["SPECDYN_IMAGE"]) | {"specdyn-ray/gpu": site["SPECDYN_CUDA_IMAGE"]}
    cpu, gpu = found("RayCluster", "specdyn-ray")["spec"]["workerGroupSpecs"]
    sizes = [[group[key] for key in ("minReplicas", "replicas", "maxReplicas")] for group in (cpu, gpu)]
    assert sizes == [[9, 9, 11], [10, 10, 12]]
    given = {name: PODS[f"specdyn-ray/{name}"]["spec"]["containers"][0]["resources"] for name in ("cpu", "gpu")}
    assert given["cpu"]["limits"] == given["cpu"]["requests"] == {"cpu": "13", "memory": "14G"}
    assert given["gpu"]["limits"] == given["gpu"]["requests"] == given["cpu"]["limits"] | {"nvidia.com/gpu": "15"}
    data = found("PersistentVolumeClaim", "specdyn-data")["spec"]
    (postgres,) = found("StatefulSet", "postgres")["spec"]["volumeClaimTemplates"]
    assert data["storageClassName"] == postgres["spec"]["storageClassName"] == "fast"
    assert data["resources"]["requests"]["storage"] == "17Gi"
    assert postgres["spec"]["resources"]["requests"]["storage"] == "16Gi"
    assert found("NetworkPolicy", "store-clients")["spec"]["egress"] == [{"ports": [{"protocol": "TCP", "port": 18}]}]
    assert "edge" in str(found("NetworkPolicy", "prefect-server")["spec"]["ingress"])


def test_secrets_are_in_the_secret_alone() -> None:
    others = [resource for resource in GPU if resource["kind"] != "Secret"]
    text = json.dumps(others)
    for key in SECRETS:
        value = filled_site()[key]
        assert value not in text and base64.b64encode(value.encode()).decode() not in text
    assert set(found("Secret", "specdyn-site")["data"]) == set(filled_site())


def secrets_of(name: str) -> set[str]:
    values = environment(PODS[name]["spec"]["containers"][0]).values()
    return {value.removeprefix("secret:") for value in values if value.startswith("secret:")} & set(SECRETS)


def test_each_pod_gets_only_the_secrets_it_needs() -> None:
    store = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {name: secrets_of(name) for name in PODS} == {
        "postgres": {"POSTGRES_PASSWORD"},
        "prefect-server": {"POSTGRES_PASSWORD", "PREFECT_AUTH"},
        "specdyn-setup": {"PREFECT_AUTH"} | store,
        "specdyn-worker": {"PREFECT_AUTH", "RAY_AUTH_TOKEN"} | store,
        "specdyn-ray/head": {"RAY_AUTH_TOKEN"},
        "specdyn-ray/cpu": {"RAY_AUTH_TOKEN"} | store,
        "specdyn-ray/gpu": {"RAY_AUTH_TOKEN"} | store,
    }


def test_all_of_ray_asks_for_the_token() -> None:
    autoscaler = found("RayCluster", "specdyn-ray")["spec"]["autoscalerOptions"]
    for container in [*(PODS[name]["spec"]["containers"][0] for name in RAY), autoscaler]:
        assert environment(container)["RAY_AUTH_MODE"] == "token"
        assert environment(container)["RAY_AUTH_TOKEN"] == "secret:RAY_AUTH_TOKEN"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_meets_the_restricted_standard(name: str) -> None:
    assert found("Namespace", "specdyn")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = PODS[name]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    autoscaler = found("RayCluster", "specdyn-ray")["spec"]["autoscalerOptions"]
    for container in [*spec["containers"], autoscaler]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    allowed = {"emptyDir", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert spec["enableServiceLinks"] is False
    assert spec.get("automountServiceAccountToken", True) is (name == "specdyn-ray/head")


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_limited_watched_and_pinned(name: str) -> None:
    spec = PODS[name]["spec"]
    (container,) = spec["containers"]
    assert {"cpu", "memory"} <= set(container["resources"]["limits"]) & set(container["resources"]["requests"])
    assert ("livenessProbe" in container) is (name != "specdyn-setup")
    assert re.search(r":[\w.-]*\d[\w.-]*$", container["image"])
    assert {mount["name"] for mount in container["volumeMounts"]} - {"data"} <= {
        each["name"] for each in spec["volumes"]
    }
    ports = {port["name"] for port in container.get("ports", ())}
    named = [container[probe].get("httpGet", {}).get("port") for probe in container if probe.endswith("Probe")]
    assert {port for port in named if isinstance(port, str)} <= ports


def test_services_lead_to_ports_of_pods() -> None:
    for service in (resource for resource in GPU if resource["kind"] == "Service"):
        (template,) = chosen({"matchLabels": service["spec"]["selector"]}).values()
        ports = {each["name"]: each["containerPort"] for each in template["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_addresses_name_services() -> None:
    addresses = set()
    for template in PODS.values():
        for value in environment(template["spec"]["containers"][0]).values():
            addresses |= set(re.findall(r"(?:@|http://|^)([a-z][a-z-]*):(\d+)", value))
    services = {
        (resource["metadata"]["name"], str(port["port"]))
        for resource in GPU
        if resource["kind"] == "Service"
        for port in resource["spec"]["ports"]
    }
    head = found("RayCluster", "specdyn-ray")
    gcs = {port["name"]: port["containerPort"] for port in PODS["specdyn-ray/head"]["spec"]["containers"][0]["ports"]}
    # The operator names the head's service so.
    assert addresses == services | {(f"{head['metadata']['name']}-head-svc", str(gcs["gcs-server"]))}


def test_workers_scale_and_the_head_does_no_work() -> None:
    spec = found("RayCluster", "specdyn-ray")["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (toleration,) = PODS["specdyn-ray/gpu"]["spec"]["tolerations"]
    assert toleration["key"] == "nvidia.com/gpu"


def test_a_flow_waits_for_a_cluster_that_scales() -> None:
    worker = environment(PODS["specdyn-worker"]["spec"]["containers"][0])
    assert worker[PATIENCE] == "secret:CLUSTER_WAIT"
    assert float(read_site()["CLUSTER_WAIT"]) > 0


def test_places_that_runs_hold_outlive_the_server() -> None:
    pod = PODS["prefect-server"]["spec"]
    assert environment(pod["containers"][0]).items() >= LEASES.items()
    assert {"name": "data", "mountPath": "/data"} in pod["containers"][0]["volumeMounts"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "prefect-server"}} in pod["volumes"]
    assert found("Deployment", "prefect-server")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_version_of_ray_is_the_installed_one() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={found('RayCluster', 'specdyn-ray')['spec']['rayVersion']}" in constraints


def chosen(selector: Resource) -> dict[str, Resource]:
    """The pods of the namespace that a selector finds."""
    wanted = selector.get("matchLabels", {}).items()
    return {name: template for name, template in PODS.items() if wanted <= template["metadata"]["labels"].items()}


def policies() -> dict[str, Resource]:
    return {each["metadata"]["name"]: each["spec"] for each in GPU if each["kind"] == "NetworkPolicy"}


def test_nothing_is_open_that_no_policy_opens() -> None:
    assert policies()["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # An empty rule would open everything.
    rules = [rule for spec in policies().values() for way in ("ingress", "egress") for rule in spec.get(way, ())]
    assert all(rules)


@pytest.mark.parametrize("name", policies())
def test_a_policy_finds_pods(name: str) -> None:
    spec = policies()[name]
    assert chosen(spec["podSelector"])
    for way, key in (("ingress", "from"), ("egress", "to")):
        assert way not in spec or way.capitalize() in spec["policyTypes"]
        for rule in spec.get(way, ()):
            for peer in rule.get(key, ()):
                assert "namespaceSelector" in peer or chosen(peer["podSelector"])


def reach(port: int) -> set[tuple[str, str]]:
    """(from, to) of the pods that may connect to a port, by both sides' policies."""
    pairs = {(a, b) for a in PODS for b in PODS}
    return {(a, b) for a, b in pairs if _allowed(a, b, port, "egress") and _allowed(b, a, port, "ingress")}


def _allowed(pod: str, peer: str, port: int, way: str) -> bool:
    for spec in policies().values():
        if pod not in chosen(spec["podSelector"]):
            continue
        for rule in spec.get(way, ()):
            peers = rule.get("to" if way == "egress" else "from")
            inside = peers is None or any(
                "namespaceSelector" not in each and peer in chosen(each["podSelector"]) for each in peers
            )
            if inside and ("ports" not in rule or port in [each["port"] for each in rule["ports"]]):
                return True
    return False


def test_who_reaches_whom() -> None:
    among_ray = {(a, b) for a in RAY for b in RAY}
    clients = {name for name, each in PODS.items() if "PREFECT_API_URL" in environment(each["spec"]["containers"][0])}
    assert clients == {"specdyn-setup", "specdyn-worker"}
    assert reach(4200) == {(name, "prefect-server") for name in clients} | among_ray
    assert reach(5432) == {("prefect-server", "postgres")} | among_ray
    # The side that listens is closed by itself, whatever the others may.
    assert {name for name in PODS if _allowed("postgres", name, 5432, "ingress")} == {"prefect-server"}
    assert {name for name in PODS if _allowed("prefect-server", name, 4200, "ingress")} == clients
    assert reach(6379) == reach(8265) == reach(40000) == among_ray


def test_who_gets_out_to_the_store() -> None:
    need = {name for name, each in PODS.items() if "AWS_ACCESS_KEY_ID" in environment(each["spec"]["containers"][0])}
    assert set(chosen(policies()["store-clients"]["podSelector"])) == need
    assert set(chosen(policies()["ray-autoscaler"]["podSelector"])) == {"specdyn-ray/head"}
