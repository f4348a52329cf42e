"""What a service tells its flows, and what it refuses before it starts."""

import socket
from pathlib import Path
from typing import Any

import pytest

from specdyn.flows.engine.settings import ALLOWED, REPORTS, STORE, chosen_cluster, chosen_store, report_url
from specdyn.flows.service.serve import AUTH, Service, free_port, is_loopback
from specdyn.storage.places import Store


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 4201}, "reports_port=4201 is not allowed: expected another port than port=4201"),
        ({"port": 70000}, "port=70000 is not allowed: expected a port, or 0"),
        ({"cpus": 0}, "cpus=0 is not allowed: expected an integer of 1 or more"),
        ({"gpus": -1}, "gpus=-1 is not allowed: expected an integer of 0 or more"),
        ({"public_url": "lab.example"}, "public_url='lab.example' is not allowed: expected an address of http"),
        ({"notify": "slack"}, "notify='slack' is not allowed: expected TYPE/NAME"),
    ],
    ids=str,
)
def test_a_service_that_cannot_work_is_refused_before_it_starts(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        Service(store="results", **given)


def test_a_flow_without_a_store_takes_that_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "shared"))
    assert chosen_store("").url == str(tmp_path / "shared")
    assert chosen_store(str(tmp_path / "own")).url == str(tmp_path / "own")


def test_stores_outside_the_allowed_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, f"{tmp_path}/shared s3://lab/specdyn")
    assert chosen_store(f"{tmp_path}/shared/mine").url == f"{tmp_path}/shared/mine"
    for outside in (f"{tmp_path}/shared/../other", f"{tmp_path}/sharedness", "s3://lab/specdyn-other", "s3://lab"):
        with pytest.raises(ValueError, match=r"expected one that this service may write to.*shared, s3://lab"):
            chosen_store(outside)
    assert not (tmp_path / "other").exists()


def test_the_cluster_is_the_given_one_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_cluster("") is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert chosen_cluster("") == "10.0.0.1:6379"
    assert chosen_cluster("auto") == "auto"


def test_a_service_sends_its_token_to_no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv(ALLOWED, "results")
    assert chosen_cluster("10.0.0.1:6379") == chosen_cluster("") == "10.0.0.1:6379"
    with pytest.raises(ValueError, match=r"ray_address='10.6.6.6:6379' is not allowed: expected nothing"):
        chosen_cluster("10.6.6.6:6379")


def test_reports_have_an_address_only_where_they_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path)
    page = f"{store}/reports/a/index.html"
    assert report_url(page, Store(store)) == page
    monkeypatch.setenv(REPORTS, "http://127.0.0.1:4201")
    monkeypatch.setenv(STORE, store)
    assert report_url(page, Store(store)) == "http://127.0.0.1:4201/a/index.html"
    assert report_url("/elsewhere/reports/a/index.html", Store("/elsewhere")) == "/elsewhere/reports/a/index.html"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("lab", False)],
)
def test_addresses_that_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_service_for_others_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"expected 127.0.0.1 unless {AUTH}=user:password is set"):
        Service(store="results", host="0.0.0.0")
    monkeypatch.setenv(AUTH, "lab:secret")
    assert Service(store="results", host="0.0.0.0").host == "0.0.0.0"
    monkeypatch.setenv(AUTH, "hunter2")
    with pytest.raises(ValueError, match="user:password") as refused:
        Service(store="results")
    assert "hunter2" not in str(refused.value)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port={port} on 127.0.0.1: Address already in use; choose another"):
            free_port("127.0.0.1", port, "port")
    assert free_port("127.0.0.1", 0, "port") > 0
    with pytest.raises(ValueError, match="at_once"):
        Service(store="results", at_once=0)
