"""Repositories of the Hugging Face Hub, read by ranged requests from a server of the Hub's routes."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from helpers.hub import HubServer, serving_hub
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.foreign.content import content_digests, known_digests, refreshed
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Search
from specdyn.storage.places import Store

REPOSITORY = "lab/small"
SIDE = 200
TOKEN = "hf_secretsecretsecretsecret"


def weights(step: int) -> dict[str, Tensor]:
    return {f"layer{i}.weight": torch.full((SIDE, SIDE), float(step + i)) for i in range(4)}


def revision(step: int) -> dict[str, bytes]:
    """Weights in two shards, in one file of torch too, and what lies beside."""
    tensors, names = weights(step), list(weights(step))
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[2 * i : 2 * i + 2] for i in (0, 1)}
    index = {name: shard for shard, of in shards.items() for name in of}
    whole = io.BytesIO()
    torch.save(tensors, whole)
    return {
        **{shard: save({name: tensors[name] for name in of}) for shard, of in shards.items()},
        "model.safetensors.index.json": json.dumps({"weight_map": index}).encode(),
        "pytorch_model.bin": whole.getvalue(),
        "config.json": b'{"model_type": "llama"}',
        "README.md": b"# a model",
        "old/pytorch_model.bin": whole.getvalue(),
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    revisions = {f"step{step}": revision(step) for step in (0, 1000, 3000)}
    with serving_hub({REPOSITORY: {"main": revision(3000), "pr/1": revision(7), **revisions}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


def test_a_revision_is_one_checkpoint(hub: HubServer) -> None:
    found = find_checkpoints(f"hf://{REPOSITORY}@step1000")
    (checkpoint,) = found.checkpoints
    assert (checkpoint.step, checkpoint.config()) == (1000, {"model_type": "llama"})
    read = checkpoint.weights()
    assert list(read) == list(weights(1000))
    assert all(torch.equal(read[name], w) for name, w in weights(1000).items())
    assert [c.step for c in find_checkpoints(f"hf://{REPOSITORY}").checkpoints] == [0], "main has no step"


def test_revisions_are_a_series_in_the_order_of_their_steps(hub: HubServer) -> None:
    found = find_checkpoints(f"hf://{REPOSITORY}", search=Search(revisions="step*"))
    assert [(c.step, c.name) for c in found.checkpoints] == [(0, "step0"), (1000, "step1000"), (3000, "step3000")]
    assert [float(c.weights()["layer0.weight"][0, 0]) for c in found.checkpoints] == [0, 1000, 3000]
    with pytest.raises(StoreError, match=r"none of its 5 revisions matches 'tokens\*'; it has main, pr/1, step0"):
        find_checkpoints(f"hf://{REPOSITORY}", search=Search(revisions="tokens*"))
    with pytest.raises(ValueError, match=r"revisions='\*' belongs to hf://organisation/name without a revision"):
        find_checkpoints("/tmp", search=Search(revisions="*"))


def test_finding_reads_no_weights_and_a_layer_is_read_alone(hub: HubServer) -> None:
    (checkpoint,) = find_checkpoints(f"hf://{REPOSITORY}@step1000").checkpoints
    assert [path.rpartition("/")[2] for path, _ in hub.of_files()] == ["model.safetensors.index.json"]
    hub.requests.clear()
    read = checkpoint.weights()
    assert torch.equal(read["layer2.weight"], weights(1000)["layer2.weight"])
    spans = [tuple(map(int, span.removeprefix("bytes=").split("-"))) for _, span in hub.of_files()]
    headers = [span for span in spans if span[0] == 0]
    (layer,) = [span for span in spans if span[0] > 0]
    assert len(headers) == 2, "one of each shard"
    assert layer[1] - layer[0] + 1 == 4 * SIDE * SIDE


def test_a_file_of_torch_is_read_a_layer_at_a_time_too(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY]["torch"] = {"checkpoint-5/pytorch_model.bin": revision(5)["pytorch_model.bin"]}
    (checkpoint,) = find_checkpoints(f"hf://{REPOSITORY}@torch").checkpoints
    read = checkpoint.weights()
    assert read.shapes["layer3.weight"] == (SIDE, SIDE)
    hub.requests.clear()
    assert torch.equal(read["layer3.weight"], weights(5)["layer3.weight"])
    sizes = [1 + int(b) - int(a) for a, b in (s.removeprefix("bytes=").split("-") for _, s in hub.of_files())]
    assert sorted(sizes) == [30, 4 * SIDE * SIDE]


def test_a_body_that_is_cut_off_and_a_busy_server_are_asked_again(hub: HubServer) -> None:
    (checkpoint,) = find_checkpoints(f"hf://{REPOSITORY}@step1000").checkpoints
    read = checkpoint.weights()
    assert read.shapes
    hub.cuts = 1
    assert torch.equal(read["layer0.weight"], weights(1000)["layer0.weight"])
    hub.busy = 1
    assert torch.equal(read["layer1.weight"], weights(1000)["layer1.weight"])
    assert (hub.cuts, hub.busy) == (0, 0)


def test_the_token_is_sent_and_is_in_no_message(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, local_store: Store
) -> None:
    hub.token = TOKEN
    with pytest.raises(StoreError, match=r"no such repository, revision or folder .* set HF_TOKEN if it is private"):
        find_checkpoints(f"hf://{REPOSITORY}@step1000")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    found = find_checkpoints(f"hf://{REPOSITORY}", search=Search(revisions="step*"))
    assert float(found.checkpoints[1].weights()["layer0.weight"][0, 0]) == 1000
    content_digests(found, local_store)
    assert TOKEN not in caplog.text and TOKEN not in repr(found)
    assert not [p for p in Path(local_store.url).rglob("*") if p.is_file() and TOKEN in p.read_text()]


@pytest.mark.parametrize("url", [f"hf://{REPOSITORY}@nowhere", "hf://lab/other", f"hf://{REPOSITORY}@main/no/folder"])
def test_what_is_not_there_is_said(url: str, hub: HubServer) -> None:
    with pytest.raises(StoreError, match="no such repository, revision or folder on http://127"):
        find_checkpoints(url)
    with pytest.raises(StoreError, match="no such repository, revision or folder on http://127"):
        find_checkpoints("hf://lab/other", search=Search(revisions="*"))


def test_a_hub_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_hub({}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:\d+ is not reachable \(ConnectError\); check HF_ENDPOINT"):
        find_checkpoints("hf://lab/small@main")


@pytest.mark.parametrize("url", ["hf://gpt2", "hf://", "hf://lab@main/small"])
def test_a_place_that_names_no_repository_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected hf://organisation/name"):
        find_checkpoints(url)
    with pytest.raises(ValueError, match="hf"):
        objects.normalise("hf://lab/small")


def test_revisions_with_slashes_and_folders(hub: HubServer) -> None:
    found = find_checkpoints(f"hf://{REPOSITORY}", search=Search(revisions="pr/*", pattern=r"pr/(\d+)"))
    assert [(c.step, c.name) for c in found.checkpoints] == [(1, "pr/1")]
    assert float(found.checkpoints[0].weights()["layer0.weight"][0, 0]) == 7
    inside = find_checkpoints(f"hf://{REPOSITORY}/old", search=Search(revisions="step*"))
    assert [float(c.weights()["layer0.weight"][0, 0]) for c in inside.checkpoints] == [0, 1000, 3000]


def test_digests_come_from_the_listing(hub: HubServer, local_store: Store) -> None:
    found = find_checkpoints(f"hf://{REPOSITORY}", search=Search(revisions="step*"))
    hub.requests.clear()
    before = content_digests(found, local_store)
    assert hub.requests == [] and len(set(before)) == 3
    assert known_digests(refreshed(found), local_store) == before
    hub.repositories[REPOSITORY]["step3000"] = revision(3001)
    after = content_digests(refreshed(found), local_store)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False]
