"""Ports of services that tests start: nobody else takes one between its choice and its use."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import topology
from helpers.topology import free_ports


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not any(first <= port <= last for port in ports), "or any connection might take it"
    program = f"""
from helpers import topology
topology.PORTS = {ports} * 3 + [port for port in topology.PORTS if port not in {ports}]
print(*topology.free_ports(200))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    others = ended.stdout.split()
    assert len(others) == 200 and not {*map(int, others)} & {*ports}, "of another process"
    monkeypatch.setattr(topology, "PORTS", [*ports, *map(int, others)])
    assert {*free_ports(10)} <= {*map(int, others)}, "that process has ended"
