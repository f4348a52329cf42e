"""Guards: what a store holds, listed here so that a change of the schema shows in the diff of this file."""

import numpy as np
import pytest
from run_stores import VARIABLES

from storage import schema
from storage.schema import DIMENSIONS, Variable
from tasks.analysis import analysis_names, get_analysis

STORED = {
    "attention": {
        "head_alignment": "attention step head rank: float32",
        "head_alignment_score": "attention step head: float32",
    },
    "layers": {
        "agreement": "layer step rank: float32",
        "agreement_best_match": "layer step rank: float32",
        "agreement_block": "layer step row column: float32",
        "agreement_score": "layer step: float32",
        "collapse": "layer step: int8",
        "driver": "layer step: int8",
        "effective_rank": "layer step: float32",
        "effective_rank_count": "layer step: float32",
        "effective_rank_ratio": "layer step: float32",
        "singular_value": "layer step rank: float32",
    },
    "metrics": {
        "pruned_{metric}": "kept split step: float32",
        "{metric}": "split step: float32",
    },
    "pairs": {
        "alignment": "pair step rank: float32",
        "alignment_score": "pair step: float32",
    },
}

COORDINATES = ["run", "step", "layer", "pair", "attention", "head", "rank", "row", "column", "split", "kept"]


def test_groups_variables_and_dimensions_are_the_listed_ones() -> None:
    found: dict[str, dict[str, str]] = {}
    for analysis in map(get_analysis, analysis_names()):
        for name, variable in analysis.variables.items():
            text = f"{' '.join(variable.dims)}: {variable.dtype}"
            assert found.setdefault(variable.group, {}).setdefault(name, text) == text, f"{name} is declared twice"
    assert found == STORED


def test_coordinates_are_the_listed_ones_and_used() -> None:
    assert list(DIMENSIONS) == COORDINATES
    used = {
        dim for name in analysis_names() for variable in get_analysis(name).variables.values() for dim in variable.dims
    }
    assert used | {"run"} == set(COORDINATES)


def test_numbers_that_stored_values_depend_on() -> None:
    assert (schema.SCHEMA_VERSION, schema.TOP_RANKS, schema.SCORE_RANKS, schema.SPLITS) == (1, 64, 10, ("train", "val"))


def test_a_variable_states_its_fill_and_attributes() -> None:
    assert np.isnan(Variable(dims=("layer",), long_name="x").fill)
    assert VARIABLES["collapse"].fill == 0
    assert VARIABLES["collapse"].attributes == {
        "long_name": "collapse",
        "units": "1",
        "flag_values": [0, 1, 2],
        "flag_meanings": "missing alive collapsed",
    }


def test_a_wrong_shape_is_refused_with_the_variables_name() -> None:
    sizes = {"layer": 2, "step": 9, "rank": 3}
    VARIABLES["singular_value"].check("singular_value", np.zeros((2, 3)), sizes)
    with pytest.raises(ValueError, match=r"'singular_value': expected \(layer, rank\) = \(2, 3\), got \(3, 2\)"):
        VARIABLES["singular_value"].check("singular_value", np.zeros((3, 2)), sizes)
