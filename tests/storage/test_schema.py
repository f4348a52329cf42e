"""Guards: what a store holds, listed here so that a change of the schema shows in the diff of this file."""

import numpy as np
import pytest

from helpers.cubes import VARIABLES
from specdyn.storage import schema
from specdyn.storage.schema import DIMENSIONS, Variable
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
from specdyn.tasks.spectra.facts import FACTS

STORED = {
    "attention": {
        "head_alignment": "attention step head rank: float32",
        "head_alignment_score": "attention step head: float32",
        "head_product_effective_rank": "attention step head: float32",
        "head_product_singular_value": "attention step head rank: float32",
    },
    "layers": {
        "agreement": "layer step rank: float32",
        "agreement_best_match": "layer step rank: float32",
        "agreement_best_match_null": "layer: float32",
        "agreement_block": "layer step row column: float32",
        "agreement_full": "layer step rank final_rank: float32",
        "agreement_initial": "layer step rank: float32",
        "agreement_initial_best_match": "layer step rank: float32",
        "agreement_initial_score": "layer step: float32",
        "agreement_null": "layer: float32",
        "agreement_previous": "layer step rank: float32",
        "agreement_previous_best_match": "layer step rank: float32",
        "agreement_previous_score": "layer step: float32",
        "agreement_score": "layer step: float32",
        "collapse": "layer step: int8",
        "condition_number": "layer step: float32",
        "distance_from_initial": "layer step: float32",
        "driver": "layer step: int8",
        "effective_rank": "layer step: float32",
        "effective_rank_count": "layer step: float32",
        "effective_rank_ratio": "layer step: float32",
        "energy_rank": "layer step fraction: int32",
        "entropy": "layer step: float32",
        "frobenius_norm": "layer step: float32",
        "gini": "layer step: float32",
        "layer_pruned_{metric}": "layer split step: float32",
        "mp_below": "layer step: int32",
        "mp_ks": "layer step: float32",
        "mp_lower_edge": "layer step: float64",
        "mp_soft_rank": "layer step: float32",
        "mp_spikes": "layer step: int32",
        "mp_spikes_finite": "layer step: int32",
        "mp_upper_edge": "layer step: float64",
        "mp_wasserstein": "layer step: float32",
        "nuclear_norm": "layer step: float32",
        "null_condition_number": "layer null: float32",
        "null_effective_rank": "layer null: float32",
        "null_energy_rank": "layer null fraction: int32",
        "null_entropy": "layer null: float32",
        "null_gini": "layer null: float32",
        "null_kept_energy": "layer null: float32",
        "null_mp_below": "layer null: int32",
        "null_mp_ks": "layer null: float32",
        "null_mp_soft_rank": "layer null: float32",
        "null_mp_spikes": "layer null: int32",
        "null_mp_spikes_finite": "layer null: int32",
        "null_mp_wasserstein": "layer null: float32",
        "null_nuclear_norm": "layer null: float32",
        "null_participation_ratio": "layer null: float32",
        "null_power_law_alpha": "layer null: float32",
        "null_power_law_alpha_hat": "layer null: float32",
        "null_power_law_distance": "layer null: float32",
        "null_power_law_log_alpha_norm": "layer null: float32",
        "null_power_law_tail": "layer null: int32",
        "null_renyi_entropy": "layer null: float32",
        "null_spectral_norm": "layer null: float32",
        "null_stable_rank": "layer null: float32",
        "null_svd_entropy": "layer null: float32",
        "null_top_half_energy": "layer null: float32",
        "participation_ratio": "layer step: float32",
        "power_law_alpha": "layer step: float32",
        "power_law_alpha_hat": "layer step: float32",
        "power_law_distance": "layer step: float32",
        "power_law_log_alpha_norm": "layer step: float32",
        "power_law_start": "layer step: float64",
        "power_law_status": "layer step: int8",
        "power_law_tail": "layer step: int32",
        "projection_effective_rank": "layer step projection: float32",
        "projection_power_law_alpha": "layer step projection: float32",
        "projection_stable_rank": "layer step projection: float32",
        "relative_distance_from_initial": "layer step: float32",
        "renyi_entropy": "layer step: float32",
        "representation_alpha": "layer step: float32",
        "representation_alpha_fit": "layer step: float32",
        "representation_components": "layer step: int32",
        "representation_rankme": "layer step: float32",
        "singular_value": "layer step rank: float32",
        "singular_value_gap": "layer step rank: float32",
        "spectral_norm": "layer step: float32",
        "stable_rank": "layer step: float32",
        "subspace_overlap": "layer step side subspace: float32",
        "subspace_overlap_initial": "layer step side subspace: float32",
        "subspace_overlap_null": "layer side subspace: float32",
        "subspace_overlap_previous": "layer step side subspace: float32",
        "svd_entropy": "layer step: float32",
        "top_half_energy": "layer step: float32",
        "trajectory_coordinate": "layer step component: float32",
        "trajectory_explained_variance": "layer component: float32",
        "trajectory_participation_ratio": "layer: float32",
        "update_effective_rank": "layer step: float32",
        "update_relative_norm": "layer step: float32",
        "update_singular_value": "layer step rank: float32",
        "update_spectral_edge": "layer step: int32",
        "update_spectral_edge_ratio": "layer step: float32",
        "window_decay_alignment": "layer step: float32",
        "window_decay_share": "layer step: float32",
        "window_edge": "layer step portion: int32",
        "window_edge_ratio": "layer step portion: float32",
        "window_singular_value": "layer step portion window_rank: float32",
    },
    "metrics": {
        "control_{metric}": "control split step: float32",
        "curve_{metric}": "way share split step: float32",
        "decile_{metric}": "decile split step: float32",
        "log_norm_product": "step: float32",
        "network_trajectory_coordinate": "step component: float32",
        "network_trajectory_explained_variance": "component: float32",
        "network_window_decay_alignment": "step: float32",
        "network_window_decay_share": "step: float32",
        "network_window_edge": "step portion: int32",
        "network_window_edge_ratio": "step portion: float32",
        "network_window_singular_value": "step portion window_rank: float32",
        "pruned_{metric}": "kept split step: float32",
        "{metric}": "split step: float32",
    },
    "pairs": {
        "alignment": "pair step rank: float32",
        "alignment_null": "pair: float32",
        "alignment_score": "pair step: float32",
        "gram_alignment": "pair step: float32",
        "imbalance": "pair step: float32",
        "part_alignment": "pair step part rank: float32",
        "part_alignment_score": "pair step part: float32",
        "product_effective_rank": "pair step: float32",
        "product_singular_value": "pair step rank: float32",
        "weighted_alignment": "pair step: float32",
        "weighted_alignment_null": "pair: float32",
    },
}

OF_RUNS = {
    "final_collapsed_layers": ": int32",
    "final_effective_rank": ": float32",
    "final_{metric}": "split: float32",
    "grok_censored": ": int8",
    "grok_step": ": int32",
    "initial_effective_rank": ": float32",
}

COORDINATES = [
    "run",
    "step",
    "layer",
    "pair",
    "attention",
    "head",
    "part",
    "rank",
    "row",
    "column",
    "final_rank",
    "fraction",
    "null",
    "component",
    "projection",
    "portion",
    "window_rank",
    "split",
    "kept",
    "way",
    "share",
    "decile",
    "control",
    "side",
    "subspace",
]


def test_groups_variables_and_dimensions_are_the_listed_ones() -> None:
    found: dict[str, dict[str, str]] = {}
    for analysis in map(get_analysis, analysis_names()):
        for name, variable in analysis.variables.items():
            text = f"{' '.join(variable.dims)}: {variable.dtype}"
            assert found.setdefault(variable.group, {}).setdefault(name, text) == text, f"{name} is declared twice"
    assert found == STORED
    facts = {name: f"{' '.join(variable.dims)}: {variable.dtype}" for name, variable in FACTS.items()}
    assert facts == OF_RUNS
    assert {variable.group for variable in FACTS.values()} - {"metrics"} == set()


def test_coordinates_are_the_listed_ones_and_used() -> None:
    assert list(DIMENSIONS) == COORDINATES
    used = {
        dim for name in analysis_names() for variable in get_analysis(name).variables.values() for dim in variable.dims
    }
    assert used | {"run"} == set(COORDINATES)


def test_numbers_that_stored_values_depend_on() -> None:
    assert (schema.SCHEMA_VERSION, schema.TOP_RANKS, schema.SCORE_RANKS, schema.SPLITS) == (2, 64, 10, ("train", "val"))


def test_a_variable_states_its_fill_and_attributes() -> None:
    assert np.isnan(Variable(dims=("layer",), long_name="x").fill)
    assert VARIABLES["collapse"].fill == 0
    count = Variable(dims=("layer",), long_name="how many", dtype="int32")
    assert (count.fill, count.attributes["_FillValue"]) == (-1, -1)
    assert "_FillValue" not in VARIABLES["collapse"].attributes
    assert VARIABLES["collapse"].attributes == {
        "long_name": "collapse",
        "units": "1",
        "flag_values": [0, 1, 2],
        "flag_meanings": "missing alive collapsed",
    }


def test_a_count_comes_as_a_number_or_nan_and_never_as_a_fraction() -> None:
    count = Variable(dims=("layer",), long_name="how many", dtype="int32")
    stored = count.stored(np.array([3.0, np.nan, 0.0]))
    assert (stored.dtype, stored.tolist()) == (np.int32, [3, -1, 0])
    np.testing.assert_array_equal(count.stored(stored, np.dtype("float32")), np.array([3, np.nan, 0], np.float32))
    assert count.stored(np.array(7)).tolist() == 7
    with pytest.raises(ValueError, match=r"how many: expected whole numbers, got \[2.5\]"):
        count.stored(np.array([2.5, np.nan]))


def test_a_wrong_shape_is_refused_with_the_variables_name() -> None:
    sizes = {"layer": 2, "step": 9, "rank": 3}
    VARIABLES["singular_value"].check("singular_value", np.zeros((2, 3)), sizes)
    with pytest.raises(ValueError, match=r"'singular_value': expected \(layer, rank\) = \(2, 3\), got \(3, 2\)"):
        VARIABLES["singular_value"].check("singular_value", np.zeros((3, 2)), sizes)
