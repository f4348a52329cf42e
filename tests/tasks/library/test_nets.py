"""Networks of runs with the weights of a checkpoint."""

import pytest
import torch

import specdyn as sd
from helpers.analysed import sweep_called, train
from specdyn.storage.checkpoints import read_checkpoint
from specdyn.storage.places import Store


def test_a_network_has_the_weights_of_its_checkpoint(local_store: Store) -> None:
    sweep = sweep_called("decay", 1.0)
    sweep.record(local_store)
    manifest = train(sweep.specs[0], local_store.url)
    for step in (None, 0, 10):
        net = sd.load_net(local_store.url, manifest.run_id[:7], step)
        entry = next(one for one in manifest.checkpoints if one.step == (20 if step is None else step))
        stored = read_checkpoint(local_store.run_of(manifest), entry)
        assert not net.training and all(torch.equal(stored[name], of) for name, of in net.state_dict().items())
    with pytest.raises(ValueError, match="step=5 is not allowed: expected one of 0, 10, 20"):
        sd.load_net(local_store.url, manifest.run_id, 5)
    with pytest.raises(ValueError, match=r"no run in .* starts with 'zz'"):
        sd.load_net(local_store.url, "zz")
