"""deploy/slurm/specdyn.sbatch with SLURM's programs replaced: what it starts, in which order, and what it leaves."""

import os
import subprocess
from pathlib import Path

import pytest

from helpers.manifests import DEPLOY

SRUN = 'echo "srun $*" >> "$CALLS"; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'
RAY = """trap 'echo "ended $2" >> "$CALLS"; exit 0' TERM
stat -c "token %a" "$RAY_AUTH_TOKEN_PATH" >> "$CALLS"
echo "ray $* $RAY_AUTH_MODE $(wc -c < "$RAY_AUTH_TOKEN_PATH")" >> "$CALLS"
while :; do sleep 0.1; done"""
# Waits for the nodes of Ray, of which one stands for all workers; makes the token with the real one.
PYTHON = """[ "$1" = - ] || exec python3 "$@"
while [ "$(grep -c '^ray ' "$CALLS")" -lt $(($2 > 1 ? 2 : 1)) ]; do sleep 0.1; done
echo "waited for $2" >> "$CALLS"
"""


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on three nodes."""
    programs = {"srun": SRUN, "scontrol": r"printf 'a\nb\nc\n'", "ray": RAY, "python": PYTHON}
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    (tmp_path / "calls").touch()  # read by a loop that may be there before the first line
    for name, body in programs.items():
        path = tmp_path / "venv" / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CALLS": str(tmp_path / "calls"),
        "SPECDYN_VENV": str(tmp_path / "venv"),
        "SPECDYN_SHARED": str(tmp_path / "shared"),
        "SPECDYN_HEAD_IP": "192.0.2.7",
        "RAY_ADDRESS": "another:1",
        "SLURM_JOB_ID": "1230042",
        "SLURM_JOB_NODELIST": "[a-c]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "8",
    }


def run(site: dict[str, str], *command: str) -> tuple[int, list[str]]:
    script = DEPLOY / "slurm" / "specdyn.sbatch"
    done = subprocess.run([script, *command], env=site, capture_output=True, text=True, timeout=60, check=False)
    calls = Path(site["CALLS"])
    assert list(Path(site["SPECDYN_SHARED"]).iterdir()) == [], "the token is left behind"
    return done.returncode, calls.read_text().splitlines()


def test_the_cluster_is_there_before_the_command_and_gone_after_it(site: dict[str, str]) -> None:
    status, calls = run(site, "bash", "-c", 'echo "command $RAY_ADDRESS $RAY_AUTH_MODE" >> "$CALLS"; exit 5')
    assert status == 5
    assert calls[0] == (
        "srun --overlap --nodes=1 --ntasks=1 --cpus-per-task=8 --nodelist=a ray start --head "
        "--node-ip-address=192.0.2.7 --port=20042 --num-cpus=8 --include-dashboard=false "
        "--temp-dir=/tmp/ray-1230042 --block"
    )
    joined = "ray start --address=192.0.2.7:20042 --num-cpus=8 --block"
    assert f"srun --overlap --nodes=2 --ntasks=2 --cpus-per-task=8 --exclude=a {joined}" in calls
    order = ["waited for 1", "waited for 3", "command 192.0.2.7:20042 token"]
    assert [call for call in calls if call in order] == order
    assert calls[-2:] == ["ended --address=192.0.2.7:20042", "ended --head"]


def test_all_nodes_read_one_token_that_others_cannot(site: dict[str, str]) -> None:
    _, calls = run(site, "true")
    assert [call for call in calls if call.startswith("token")] == ["token 600", "token 600"]
    assert [call.split()[-2:] for call in calls if call.startswith("ray ")] == [["token", "64"], ["token", "64"]]


def test_one_node_is_enough(site: dict[str, str]) -> None:
    status, calls = run(site | {"SLURM_JOB_NUM_NODES": "1"}, "true")
    assert status == 0
    assert [call for call in calls if call.startswith(("srun", "waited"))][1:] == ["waited for 1"]


def test_a_head_that_ends_ends_the_job(site: dict[str, str]) -> None:
    (Path(site["SPECDYN_VENV"]) / "bin" / "ray").write_text("#!/usr/bin/env bash\nexit 1\n")
    (Path(site["SPECDYN_VENV"]) / "bin" / "python").write_text('#!/usr/bin/env bash\n[ "$1" = -c ]\n')
    status, calls = run(site, "bash", "-c", 'echo command >> "$CALLS"')
    assert status == 1
    assert "command" not in calls


def test_a_job_without_a_command_is_refused(site: dict[str, str]) -> None:
    assert run(site)[0] == 2
