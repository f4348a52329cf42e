"""deploy/Dockerfile and the scripts in the image: pinned, without secrets, and roles that are really there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.manifests import DEPLOY, ROOT, compose, filled_site, overlay, pods

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM .* AS (\w+)\n((?:.*\n)*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROLE = DEPLOY / "role.sh"
ROLES = re.findall(r"^([a-z-]+)\)$", ROLE.read_text(), re.MULTILINE)
SCRIPTS = [ROLE, DEPLOY / "make-site-env.sh", DEPLOY / "slurm" / "specdyn.sbatch"]


def test_the_base_is_pinned_and_the_same_for_all_stages() -> None:
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:${PYTHON}", "cpu"}
    assert list(STAGES) == ["build", "cpu", "cuda"]


def test_the_image_names_no_index_and_holds_no_secret() -> None:
    assert not re.search(r"index-url|https?://|PASSWORD|TOKEN|_KEY", DOCKERFILE)
    # Arguments stay in the image's history, mounted secrets do not.
    assert re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE) == ["PYTHON"]


def test_versions_come_from_the_constraints() -> None:
    (install,) = re.findall(r"pip install .*", DOCKERFILE)
    assert "-c constraints.txt" in install
    extras = re.search(r"\[([a-z,]+)\]", install)
    assert extras and set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"]) - {"dev", "bench"}


def test_all_packages_are_copied_and_let_through() -> None:
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE) for name in _sources(line)}
    packages = {path.name for path in (ROOT / "specdyn").iterdir() if path.is_symlink()}
    assert packages == {"flows", "models", "storage", "tasks"}
    assert packages | {"specdyn"} <= copied
    let_through = re.findall(r"^!(.+)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert set(let_through) == copied
    assert all((ROOT / name).exists() for name in copied)


def _sources(line: str) -> list[str]:
    return [word for word in line.split()[:-1] if not word.startswith("--")]


def test_the_image_is_run_by_an_ordinary_user_known_to_kubernetes() -> None:
    assert re.findall(r"^USER (.+)", STAGES["cpu"], re.MULTILINE) == ["10001:10001"]
    assert "USER" not in STAGES["cuda"]
    users = {
        template["spec"]["securityContext"]["runAsUser"]
        for name, template in pods(overlay("gpu"))
        if name != "postgres"
    }
    assert users == {10001}


def test_only_the_cuda_image_asks_for_gpus() -> None:
    assert "NVIDIA_VISIBLE_DEVICES=all" in STAGES["cuda"] and "NVIDIA_DRIVER_CAPABILITIES=" in STAGES["cuda"]
    assert "NVIDIA" not in STAGES["build"] + STAGES["cpu"]
    built = {
        service["image"]: service["build"]["target"]
        for service in compose(filled_site())["services"].values()
        if "build" in service
    }
    assert built == {filled_site()["SPECDYN_IMAGE"]: "cpu", filled_site()["SPECDYN_CUDA_IMAGE"]: "cuda"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    subprocess.run([Path(sys.executable).with_name("shellcheck"), script], check=True)


def test_what_compose_and_kubernetes_start_are_roles() -> None:
    services = compose(filled_site())["services"].values()
    started = {each["command"][0] for each in services if "specdyn:" in each["image"]}
    arguments = {
        each["args"][0] for _, pod in pods(overlay("gpu")) for each in pod["spec"]["containers"] if "args" in each
    }
    checks = {each["healthcheck"]["test"][2] for each in services if "specdyn-role" in str(each.get("healthcheck"))}
    assert started | arguments | checks == set(ROLES)


Stubs = Callable[..., dict[str, str]]


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    """Programs that note how they were called, then do what is given; the environment that finds them first."""

    def make(**programs: str) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, body in programs.items():
            note = f'echo "{name} $* RAY_ADDRESS=${{RAY_ADDRESS:-}}" >> {tmp_path}/calls'
            (folder / name).write_text(f"#!/usr/bin/env bash\n{note}\n{body}\n")
            (folder / name).chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    return make


MARKS = "mark_silent_runs"
"""In what a worker calls beside the others, whenever it gets to it."""


def calls(tmp_path: Path) -> list[str]:
    return [call for call in (tmp_path / "calls").read_text().splitlines() if MARKS not in call]


def role(name: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROLE, name], env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_a_server_without_a_password_does_not_start(stubs: Stubs, tmp_path: Path) -> None:
    environment = stubs(prefect="true")
    assert role("server", environment).returncode != 0
    assert role("server", environment | {"PREFECT_SERVER_API_AUTH_STRING": ""}).returncode != 0
    assert not (tmp_path / "calls").exists()
    assert role("server", environment | {"PREFECT_SERVER_API_AUTH_STRING": "user:password"}).returncode == 0
    assert calls(tmp_path)[0].startswith("prefect server start --host 0.0.0.0 --port 4200")


NODE_IS_UP = '[ "$(grep -c ^python "${0%/bin/*}/calls")" -gt 1 ]'
"""From the second time it is asked."""


def test_a_worker_is_a_node_of_ray_without_cpus(stubs: Stubs, tmp_path: Path) -> None:
    environment = stubs(ray="exec sleep 20", prefect="sleep 1; exit 3", python=NODE_IS_UP) | {"RAY_HEAD": "head:6379"}
    assert role("worker", environment).returncode == 3
    *before, prefect = calls(tmp_path)
    first, second, ray = sorted(before)
    assert first == second and "http://127.0.0.1:52365/api/local_raylet_healthz" in first
    assert ray == "ray start --address=head:6379 --num-cpus=0 --num-gpus=0 --block RAY_ADDRESS="
    assert prefect.startswith("prefect worker start --pool specdyn --type process")
    assert prefect.endswith("RAY_ADDRESS=auto")
    assert (tmp_path / "calls").read_text().count(f"{MARKS}()") == 1


def test_a_worker_whose_node_cannot_join_ends(stubs: Stubs, tmp_path: Path) -> None:
    environment = stubs(ray="exit 4", prefect="true", python="false") | {"RAY_HEAD": "head:6379"}
    assert role("worker", environment).returncode != 0
    assert not any(call.startswith("prefect") for call in calls(tmp_path))


def test_a_worker_ends_with_its_node(stubs: Stubs) -> None:
    environment = stubs(ray="sleep 3; exit 4", prefect="exec sleep 20", python="true") | {"RAY_HEAD": "head:6379"}
    assert role("worker", environment).returncode == 4


def traps_term(pid: int) -> bool:
    """Whether the process would catch SIGTERM now, as Linux tells."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_node_outlives_its_worker_that_must_stop(stubs: Stubs, tmp_path: Path) -> None:
    traps = f"trap 'echo stopped %s >> {tmp_path}/calls; exit 0' %s; touch {tmp_path}/%s; while :; do sleep 0.1; done"
    # As Prefect does on SIGTERM: it sends itself SIGINT.
    prefect = "trap 'kill -INT $$' TERM\n" + traps % ("prefect", "INT", "prefect")
    environment = stubs(ray=traps % ("ray", "TERM", "ray"), prefect=prefect, python="true") | {"RAY_HEAD": "head:6379"}
    with subprocess.Popen([ROLE, "worker"], env=environment, start_new_session=True) as process:
        try:
            # A signal before a trap is set ends the program that it is sent to.
            while not ((tmp_path / "prefect").exists() and (tmp_path / "ray").exists() and traps_term(process.pid)):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert calls(tmp_path)[-2:] == ["stopped prefect", "stopped ray"]


# Notes the file that is deployed; `inspect` answers with what comes first.
PREFECT = '[ "$2" != inspect ] || exit %s; [ "$2" != deploy ] || cp "$5" "${0%%/bin/*}/deployed"'
# Runs the program that only reads a file.
READER = f'[[ "$2" != *yaml* ]] || exec {sys.executable} "$@"'


@pytest.mark.parametrize("there", [True, False])
def test_setup_makes_what_is_missing_and_leaves_schedules_alone(stubs: Stubs, tmp_path: Path, there: bool) -> None:
    environment = stubs(prefect=PREFECT % (0 if there else 1), specdyn="true", python=READER)
    given = {
        "SPECDYN_STORE": "s3://bucket/prefix",
        "PREFECT_FILE": str(DEPLOY / "prefect.yaml"),
        "TMPDIR": str(tmp_path),
    }
    assert role("setup", environment | given).returncode == 0
    assert any("work-pool create specdyn --type process" in call for call in calls(tmp_path)) is not there
    declared, deployed = (yaml.safe_load(path.read_text()) for path in (DEPLOY / "prefect.yaml", tmp_path / "deployed"))
    for each in declared["deployments"] if there else ():
        each["schedules"] = []
    assert deployed == declared


def test_setup_stops_at_a_store_that_fails(stubs: Stubs, tmp_path: Path) -> None:
    environment = stubs(prefect="true", specdyn="exit 1", python="true") | {"SPECDYN_STORE": "s3://bucket/prefix"}
    assert role("setup", environment).returncode == 1
    assert not any(call.startswith("prefect") for call in calls(tmp_path))


def test_what_setup_imports_is_there() -> None:
    for module, name in re.findall(r"from (flows\.\w+) import (\w+)", ROLE.read_text()):
        assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_anything_else_is_a_command(stubs: Stubs) -> None:
    done = subprocess.run([ROLE, "echo", "hello"], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
