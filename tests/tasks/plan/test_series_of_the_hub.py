"""Revisions of a Hub repository, analysed as a series from a server of the Hub's routes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from helpers.hub import HubServer, serving_hub
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.places import Store
from specdyn.storage.rows import row_values
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series

REPOSITORY = "lab/small"
TOKEN = "hf_secretsecretsecretsecret"
NAMES = ("up.weight", "down.weight")


def matrices(step: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(8, 6, generator=draw) for name in NAMES}


def revision(step: int) -> dict[str, bytes]:
    return {"model.safetensors": save(matrices(step)), "config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving_hub({REPOSITORY: {f"step{step}": revision(step) for step in (0, 10, 20)}}, TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def study(store: Store) -> SeriesStudy:
    asked = AnalyseParameters(
        sources=[f"hf://{REPOSITORY}"], revisions="step*", analyses=["spectrum"], store=store.url, name="theirs"
    )
    assert TOKEN not in repr(asked)
    return series_from(asked)


def analysed(store: Store) -> int:
    (source,) = study(store).sources
    return analyse_series(ThisProcess(), lambda _: None, source, ("spectrum",), store).decompositions


def test_a_series_is_analysed_and_costs_only_its_new_revisions(hub: HubServer, local_store: Store) -> None:
    assert analysed(local_store) == 3 * len(NAMES)
    assert analysed(local_store) == 0
    hub.repositories[REPOSITORY]["step30"] = revision(30)
    hub.requests.clear()
    assert analysed(local_store) == len(NAMES)
    weights = [(path, span) for path, span in hub.of_files() if path.endswith(".safetensors")]
    tensors = [path for path, span in weights if not span.startswith("bytes=0-")]
    assert {path.split("/")[-2] for path in tensors} == {"step30"}, "of the others only headers are read"
    (row,) = study(local_store).results(local_store).rows
    found = row_values(row, None)["singular_value"]
    for i, name in enumerate(sorted(NAMES)):
        for j, step in enumerate((0, 10, 20, 30)):
            expected = np.linalg.svd(matrices(step)[name].double().numpy())[1]
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-5)
    for path in Path(local_store.url).rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


def test_what_was_done_before_a_cut_is_not_done_again(hub: HubServer, local_store: Store) -> None:
    whole = hub.repositories[REPOSITORY]["step20"]
    (source,) = study(local_store).sources
    hub.repositories[REPOSITORY]["step20"] = {"model.safetensors": whole["model.safetensors"][:-50]}
    with pytest.raises(DamagedCheckpoint, match=r"step20/model\.safetensors: .* the file is cut short"):
        analyse_series(ThisProcess(), lambda _: None, source, ("spectrum",), local_store)
    hub.repositories[REPOSITORY]["step20"] = whole
    assert analysed(local_store) == len(NAMES)
