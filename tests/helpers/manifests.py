"""Shared by the tests of deploy/: the site's values, Compose's interpolation, and the used subset of Kustomize."""

import base64
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SITE_KEYS = re.compile(r"^([A-Z0-9_]+)=(.*)$", re.MULTILINE)
VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_AUTH", "RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Secret keys of the site's file."""

LEASES = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_HOME": "/data/prefect",
}
"""Settings by which Prefect's server stores its concurrency slots on a volume."""

Resource = dict[str, Any]


def read_site(path: Path = DEPLOY / "site.env.example") -> dict[str, str]:
    """The values of a site's file."""
    return dict(SITE_KEYS.findall(path.read_text()))


def filled_site() -> dict[str, str]:
    """The example with recognisable secrets, and all other values different from the manifests' own."""
    site = read_site() | {key: f"secret-of-{key.lower()}" for key in SECRETS}
    return site | {
        "SPECDYN_IMAGE": "registry.example.org/specdyn:1",
        "SPECDYN_CUDA_IMAGE": "registry.example.org/specdyn:1-cuda",
        "WORKERS_MIN": "9",
        "GPU_WORKERS_MIN": "10",
        "WORKERS_MAX": "11",
        "GPU_WORKERS_MAX": "12",
        "WORKER_CPUS": "13",
        "WORKER_MEMORY": "14G",
        "GPUS_PER_WORKER": "15",
        "STORAGE_CLASS": "fast",
        "POSTGRES_STORAGE": "16Gi",
        "DATA_STORAGE": "17Gi",
        "STORE_PORT": "18",
        "INGRESS_NAMESPACE": "edge",
    }


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A tree with every string in it changed."""
    if isinstance(value, dict):
        return {key: mapped(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [mapped(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def compose(site: Mapping[str, str]) -> Resource:
    """compose.yaml as Compose reads it with these values; ValueError if a required one is missing or empty."""

    def value(match: re.Match[str]) -> str:
        name, operator, given = match.groups()
        found = site.get(name, "")
        if not found and operator == ":?":
            raise ValueError(f"{name} is required")
        return found or (given if operator == ":-" else "")

    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return {
        key: mapped(part, lambda text: VARIABLE.sub(value, text))
        for key, part in document.items()
        if not key.startswith("x-")
    }


def render(folder: Path, site: Mapping[str, str]) -> list[Resource]:
    """The output of `kubectl kustomize` for a folder, with these values in site.env."""
    resources = _accumulate(folder.resolve(), [], site)
    return [resource for resource in resources if not _annotations(resource)]


def _accumulate(folder: Path, resources: list[Resource], site: Mapping[str, str]) -> list[Resource]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in kustomization.get("resources", ()):
        path = folder / name
        resources += _accumulate(path.resolve(), [], site) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for resource in resources:
        if "namespace" in kustomization and resource["kind"] != "Namespace":
            resource["metadata"]["namespace"] = kustomization["namespace"]
    for name in kustomization.get("components", ()):
        resources = _accumulate((folder / name).resolve(), resources, site)
    for kind in ("Secret", "ConfigMap"):
        resources += [_generated(kind, entry, site) for entry in kustomization.get(f"{_lower(kind)}Generator", ())]
    for patch in kustomization.get("patches", ()):
        for target in _selected(resources, patch["target"]):
            _patch(target, yaml.safe_load(patch["patch"]))
    for replacement in kustomization.get("replacements", ()):
        source = replacement["source"]
        (origin,) = _selected(resources, source)
        (found,) = _places(origin, source["fieldPath"])
        for wanted in replacement["targets"]:
            targets = _selected(resources, wanted["select"])
            assert targets, f"no {wanted['select']}"
            for target in targets:
                for path in wanted["fieldPaths"]:
                    _replace(target, path, found[0][found[1]])
    return resources


def _lower(kind: str) -> str:
    return kind[0].lower() + kind[1:]


def _annotations(resource: Resource) -> bool:
    return "config.kubernetes.io/local-config" in resource["metadata"].get("annotations", {})


def _generated(kind: str, entry: Resource, site: Mapping[str, str]) -> Resource:
    assert entry["envs"] == ["site.env"]
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in site.items()}
    metadata = {"name": entry["name"], "namespace": entry["namespace"], **entry.get("options", {})}
    made = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": encoded if kind == "Secret" else dict(site)}
    return made | ({"type": "Opaque"} if kind == "Secret" else {})


def _selected(resources: list[Resource], select: Mapping[str, str]) -> list[Resource]:
    wanted = (select["kind"], select["name"])
    return [resource for resource in resources if (resource["kind"], resource["metadata"]["name"]) == wanted]


def _patch(resource: Resource, operations: list[Resource]) -> None:
    for operation in operations:
        *path, last = operation["path"].strip("/").split("/")
        at: Any = resource
        for part in path:
            at = at[int(part) if isinstance(at, list) else part]
        key = int(last) if isinstance(at, list) else last
        if operation["op"] == "test":
            assert at[key] == operation["value"]
        else:
            assert operation["op"] == "remove"
            del at[key]


def _places(resource: Resource, path: str) -> list[tuple[Any, Any]]:
    """(container, key) of each field that a path of Kustomize names: keys, indices, `*`, `[name=x]`, `[a.b/c]`."""
    parts = [part.strip("[]") for part in re.findall(r"\[[^]]*\]|[^.\[]+", path)]
    places: list[tuple[Any, Any]] = [({"root": resource}, "root")]
    for part in parts:
        found = []
        for at, key in places:
            value = at[key]
            if isinstance(value, dict):
                assert part in value, f"{path}: no {part}"
                found.append((value, part))
            elif part == "*":
                found += [(value, index) for index in range(len(value))]
            elif "=" in part:
                name, wanted = part.split("=")
                found += [(value, index) for index, item in enumerate(value) if item[name] == wanted]
            else:
                found.append((value, int(part)))
        assert found, f"{path}: no {part}"
        places = found
    return places


def _replace(resource: Resource, path: str, value: str) -> None:
    for at, key in _places(resource, path):
        at[key] = type(at[key])(value)


def overlay(name: str) -> list[Resource]:
    """An overlay with the filled site's values."""
    return copy.deepcopy(render(DEPLOY / "kubernetes" / "overlays" / name, filled_site()))


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Name and template of every pod, with the labels that the KubeRay operator adds."""
    for resource in resources:
        name, spec = resource["metadata"]["name"], resource.get("spec", {})
        if resource["kind"] == "RayCluster":
            yield f"{name}/head", _of_ray(spec["headGroupSpec"]["template"], name, "head")
            for group in spec["workerGroupSpecs"]:
                yield f"{name}/{group['groupName']}", _of_ray(group["template"], name, "worker")
        elif "template" in spec:
            yield name, spec["template"]


def _of_ray(template: Resource, cluster: str, node: str) -> Resource:
    template = copy.deepcopy(template)
    template["metadata"]["labels"] |= {"ray.io/cluster": cluster, "ray.io/node-type": node}
    return template


def environment(container: Resource) -> dict[str, str]:
    """Name -> value, or `secret:KEY`, of a container's variables."""
    return {
        each["name"]: each["value"] if "value" in each else f"secret:{each['valueFrom']['secretKeyRef']['key']}"
        for each in container.get("env", ())
    }
