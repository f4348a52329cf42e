"""The controls of pruning are those of the whole curve, at half of the values."""

import numpy as np

from helpers.analysed import NAME, analyse
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import make_sweep


def test_controls_are_two_points_of_the_curve(tmp_path: object) -> None:
    store = require_store(f"{tmp_path}/store")
    settings = {"steps": 10, "checkpoint_every": 10}
    analyses = ("performance", "pruning_curve", "pruning_controls")
    sweep = make_sweep(NAME, "smoke", [0.0], [0], "s", analyses, settings=settings)
    analyse(sweep, store.url)
    gather(sweep, store, report=False)
    metrics = open_results(store.cube("s"))["metrics"].to_dataset().isel(run=0)
    of_curve = metrics["curve_loss"].sel(share=0.5, way=["random", "energy_matched"])
    np.testing.assert_array_equal(
        metrics["control_loss"].transpose("control", "split", "step"), of_curve.transpose("way", "split", "step")
    )
    assert not np.array_equal(metrics["control_loss"][0], metrics["control_loss"][1])
