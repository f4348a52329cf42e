"""What is measured of lines and tickets goes into arrays as declared, or is refused."""

from collections.abc import Mapping

import numpy as np
import pytest

from specdyn.models.experiments.base import get_experiment
from specdyn.storage.schema import Variable
from specdyn.tasks.connect.declared import labels_of, measure, variables_of
from specdyn.tasks.connect.variables import LINE, TICKET
from specdyn.tasks.spectra.analysis import Analysis

METRICS = get_experiment("modular_addition").metrics(get_experiment("modular_addition").preset("smoke").spec)
SIZES = {"layer": 2, "rank": 3}


def analysis(**values: object) -> Analysis:
    """One that gives these values, whatever it looks at."""

    def compute(_: object) -> Mapping[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in values.items()}

    variables = {
        "agreement": Variable(dims=("layer", "rank"), long_name="agreement"),
        "distance": Variable(dims=(), long_name="distance", dtype="float64"),
        "{metric}": Variable(dims=("split",), long_name="{metric}, matched"),
    }
    labels = {"split": ("train", "val")}
    return Analysis(name="trial", version=1, of="line", variables=variables, compute=compute, labels=labels)


def test_values_fill_the_corner_of_arrays_as_declared() -> None:
    found = measure([analysis(agreement=[[1, 2]], distance=0.1, loss=[3, 4])], None, METRICS, SIZES, "a line")
    np.testing.assert_array_equal(found["agreement"], [[1, 2, np.nan], [np.nan] * 3])
    assert (found["agreement"].dtype, found["distance"].dtype, found["loss"].dtype) == ("f4", "f8", "f4")
    assert found["distance"] == 0.1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"agreement": np.ones((2, 4))},
            r"'agreement' of a line: expected \(layer, rank\) up to \(2, 3\), got",
        ),
        ({"distance": [1.0]}, r"'distance' of a line: expected \(\) up to \(\), got \(1,\)"),
        ({"other": 1.0}, "analysis 'trial' of a line declares no variable 'other'"),
    ],
)
def test_values_that_were_not_declared_so_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measure([analysis(**values)], None, METRICS, SIZES, "a line")


@pytest.mark.parametrize(("declared", "own"), [(LINE, {"alpha", "layer", "rank"}), (TICKET, {"step", "layer", "rank"})])
def test_every_dimension_has_labels_or_a_size(declared: tuple[Analysis, ...], own: set[str]) -> None:
    variables = variables_of(declared, METRICS)
    assert {dim for variable in variables.values() for dim in variable.dims} == own | labels_of(declared).keys()
    assert len(variables) == sum(len(one.variables_for(METRICS)) for one in declared), "a name is declared twice"
