"""A SLURM cluster of two nodes on this machine: munge, the controller and two daemons as processes of the test."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.topology import command_line, free_ports, started, wait_until
from specdyn.flows.engine.watchdog import marked

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NODES = ("node1", "node2")
CPUS, MEGABYTES = 8, 32768
"""Resources that each node claims, whatever this machine has: as much as the job file requests."""
JOB_PORTS = 20000
"""First port; a job uses the port at the offset of its number."""
START_SECONDS = 60.0
LOOK_SECONDS = 1.0
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


def missing_programs() -> list[str]:
    """Programs of SLURM and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PLACES) is None]


def program(name: str) -> str:
    """The path of a program, which need not be in the user's PATH."""
    found = shutil.which(name, path=PLACES)
    assert found is not None, f"{name} is not installed"
    return found


@dataclass(frozen=True, slots=True)
class Job:
    """A job that has ended."""

    state: str
    exit_code: str
    log: str
    nodes: dict[int, str]
    """The node on which each process of Ray ran, by its id."""


@dataclass(frozen=True, slots=True)
class Slurm:
    """A running cluster."""

    folder: Path
    environment: dict[str, str]
    """Environment by which SLURM's programs find it."""

    def asked(self, *command: str) -> str:
        """The output of a SLURM program."""
        ended = subprocess.run(
            [program(command[0]), *command[1:]],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def run(self, options: Sequence[str], script: Path, *command: str, seconds: float = 240.0) -> Job:
        """Submit a script with a command, and wait for the end of the job."""
        number = self.asked("sbatch", "--parsable", *options, str(script), *command).strip()
        log, nodes = self.folder / f"specdyn-{number}.log", dict[int, str]()

        def about() -> dict[str, str]:
            words = self.asked("scontrol", "show", "job", number).split()
            return dict(word.split("=", 1) for word in words if "=" in word)

        try:
            end = time.monotonic() + seconds
            while (now := about())["JobState"] not in ENDED:
                assert time.monotonic() < end, f"job {number} has not ended:\n{_tail(log)}"
                nodes |= _nodes_of_ray()
                time.sleep(LOOK_SECONDS)
        finally:
            self.asked("scancel", number)  # does nothing if it has ended
            shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)
        return Job(now["JobState"], now["ExitCode"], log.read_text() if log.exists() else "", nodes)


def _nodes_of_ray() -> dict[int, str]:
    """The node of each Ray process, by its id."""
    return {pid: node for node in NODES for pid in marked(f"SLURMD_NODENAME={node}") if "ray::" in command_line(pid)}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:] if log.exists() else f"{log} is not there"


def _configuration(folder: Path, user: str, ports: Sequence[int]) -> str:
    """A minimal slurm.conf, with everything below the folder."""
    control, *of_nodes, first_job = ports
    host = socket.gethostname().split(".")[0]
    settings = {
        "ClusterName": "tests",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": control,
        "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge/socket",
        "CredType": "cred/munge",
        "StateSaveLocation": f"{folder}/state",
        "SlurmdSpoolDir": f"{folder}/spool.%n",
        "SlurmctldPidFile": f"{folder}/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/slurmd.%n.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "SchedulerType": "sched/builtin",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "FirstJobId": first_job,
        "KillWait": 5,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    for node, port in zip(NODES, of_nodes, strict=True):
        sizes = f"CPUs={CPUS} RealMemory={MEGABYTES}"
        lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {sizes}")
    lines.append(f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO")
    return "".join(f"{line}\n" for line in lines)


def _free_job() -> int:
    """A job number whose port is free, so that parallel tests on this machine do not collide."""
    while True:
        number = 10_000 + secrets.randbelow(9_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", JOB_PORTS + number % 10_000)) != 0:
                return number


@contextmanager
def _munge(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The daemon whose key authenticates the others."""
    home = folder / "munge"
    home.mkdir(mode=0o711)
    home.chmod(0o711)
    key = home / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{name}={home / file}" for name, file in places.items()]
    command = [program("munged"), "--foreground", "--num-threads=2", *options]
    with started("munged", command, environment, folder) as process:
        process.wait_until((home / "socket").exists, "munge listens")
        yield


@contextmanager
def slurm() -> Iterator[Slurm]:
    """A cluster with two idle nodes; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o711)  # munge wants every user to reach its socket
    user = pwd.getpwuid(os.getuid()).pw_name
    file = folder / "slurm.conf"
    environment = {"SLURM_CONF": str(file)}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        enter = stack.enter_context
        enter(_munge(folder, environment))
        file.write_text(_configuration(folder, user, [*free_ports(1 + len(NODES)), _free_job()]))
        (folder / "cgroup.conf").write_text("")
        (folder / "state").mkdir()
        enter(started("slurmctld", [program("slurmctld"), "-D"], environment, folder, stop=signal.SIGTERM))
        for node in NODES:
            (folder / f"spool.{node}").mkdir()
            enter(started(node, [program("slurmd"), "-D", "-N", node], environment, folder, stop=signal.SIGTERM))
        cluster = Slurm(folder, environment)

        def idle() -> bool:
            asked = [program("sinfo"), "--noheader", "--Node", "--format=%T"]
            ended = subprocess.run(
                asked, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
            )
            return ended.stdout.split() == ["idle"] * len(NODES)

        try:
            wait_until(idle, "both nodes wait for work", START_SECONDS)
        except AssertionError as error:
            said = (f"{log.name}:\n{_tail(log)}" for log in sorted(folder.glob("*.log")))
            raise AssertionError("\n".join([str(error), *said])) from None
        yield cluster
