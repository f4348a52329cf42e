"""Means over seeds, scores, chance and grokking: cubes made by hand, and every answer in closed form."""

import numpy as np
import pytest
import xarray as xr

import specdyn as sd
from specdyn.storage.schema import PROVENANCE
from specdyn.tasks.analyses import null_levels
from specdyn.tasks.connect.variables import LINE, TICKET
from specdyn.tasks.library.accessor import register
from specdyn.tasks.library.questions import group_of
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
from specdyn.tasks.spectra.labels import CHANCE_OF, LOGARITHMS

NAN = np.nan
STEPS = [0, 10, 30]
register()


def layers(values: list[list[float]], **settings: list[object]) -> xr.Dataset:
    """A group of one layer with the variable `effective_rank` of these runs and steps."""
    runs = [f"run{i}" for i in range(len(values))]
    ranks = np.array(values, np.float32)[:, None, :]
    return xr.Dataset(
        {
            "effective_rank": (("run", "layer", "step"), ranks, {"long_name": "effective rank / rank"}),
            "collapse": (("run", "layer", "step"), np.ones(ranks.shape, np.int8), {"flag_values": [0, 1, 2]}),
        },
        {
            "run": runs,
            "layer": ["a"],
            "step": STEPS,
            "status": ("run", ["done"] * len(runs), {"role": PROVENANCE}),
            "computed_on": ("run", runs, {"role": PROVENANCE}),
            **{name: ("run", np.array(of)) for name, of in settings.items()},
        },
    )


def test_a_mean_is_of_the_runs_that_agree_in_all_other_settings() -> None:
    data = layers(
        [[1, 2, 3], [3, 4, 5], [10, 10, 10], [20, 20, 20]],
        weight_decay=[0.0, 0.0, 1.0, 1.0],
        optimizer=["adam", "adam", "adam", "sgd"],
        seed=[0, 1, 0, 0],
    )
    means = sd.mean_over(data, "seed")
    assert means["run"].values.tolist() == [
        "weight_decay=0,optimizer=adam",
        "weight_decay=1,optimizer=adam",
        "weight_decay=1,optimizer=sgd",
    ]
    np.testing.assert_array_equal(means.effective_rank.squeeze("layer"), [[2, 3, 4], [10] * 3, [20] * 3])
    assert means["runs"].values.tolist() == [2, 1, 1]
    assert means["weight_decay"].values.tolist() == [0, 1, 1] and "seed" not in means.coords
    assert "collapse" not in means and "status" not in means.coords
    assert means.effective_rank.dtype == np.float32 and means.effective_rank.attrs == data.effective_rank.attrs
    xr.testing.assert_identical(means, data.specdyn.mean_over("seed"))
    by_decay = data.isel(run=[0, 1, 2]).specdyn.mean_over("weight_decay")
    assert by_decay["seed"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(by_decay.effective_rank.squeeze("layer"), [[5.5, 6, 6.5], [3, 4, 5]])


def test_runs_without_a_value_are_counted_where_they_have_one_and_nowhere_else() -> None:
    data = layers(
        [[1, 2, NAN], [3, NAN, NAN], [NAN, NAN, NAN], [7, 8, NAN]],
        weight_decay=[0.0, 0.0, 0.0, 1.0],
        seed=[0, 1, 2, 0],
    )
    means = sd.mean_over(data)
    np.testing.assert_array_equal(means.effective_rank.squeeze("layer"), [[2, 2, NAN], [7, 8, NAN]])
    assert means["runs"].values.tolist() == [2, 1], "the third run has no value at all"
    np.testing.assert_array_equal(means["effective_rank_runs"].squeeze("layer"), [[2, 1, 0], [1, 1, 0]])
    whole = sd.mean_over(data.isel(step=[0]))
    assert "effective_rank_runs" not in whole.coords, "every mean there is of `runs` runs"
    none = sd.mean_over(data.isel(run=[2]))
    assert none["runs"].values.tolist() == [0] and none.effective_rank.isnull().all()


def test_runs_at_unequal_steps_share_the_steps_that_they_share() -> None:
    data = layers([[1, NAN, 3], [3, 5, 7]], weight_decay=[0.0, 0.0], seed=[0, 1])
    data = data.assign_coords(epoch=(("run", "step"), [[0.0, NAN, 3.0], [0.0, 1.0, 3.0]]))
    means = sd.mean_over(data)
    np.testing.assert_array_equal(means.effective_rank.squeeze(), [2, 5, 5])
    np.testing.assert_array_equal(means["effective_rank_runs"].squeeze(), [2, 1, 2])
    assert "epoch" not in means.coords, "the runs differ in it"


def test_a_cube_is_averaged_group_by_group_and_a_missing_seed_is_seen() -> None:
    data = layers([[1, 1, 1], [2, 2, 2], [6, 6, 6]], weight_decay=[0.0, 1.0, 1.0], seed=[0, 0, 1])
    settings = xr.Dataset({"steps": ("run", [9, 9, 9])}, {"run": data["run"]})
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"unit": "steps"}), "/layers": data, "/runs": settings})
    means = tree.specdyn.mean_over("seed")
    assert list(means.children) == ["layers"] and means.attrs == {"unit": "steps"}
    assert means["layers"]["runs"].values.tolist() == [1, 2]
    grid = sd.grid(means["layers"].to_dataset(), "weight_decay")
    np.testing.assert_array_equal(grid["effective_rank"].sel(weight_decay=1.0, step=10), [4])


def test_a_group_may_be_asked_as_a_tree() -> None:
    data = layers([[1, 1, 1], [3, 3, 3]], weight_decay=[0.0, 0.0], seed=[0, 1])
    group = xr.DataTree.from_dict({"/": xr.Dataset(), "/layers": data})["layers"]
    assert isinstance(group, xr.DataTree)
    np.testing.assert_array_equal(group.specdyn.mean_over()["effective_rank"].squeeze(), [2, 2, 2])
    assert group.specdyn.plot.effective_rank().get_suptitle() == "Effective rank of each layer by weight decay"
    assert len(group.specdyn.to_dataframe("effective_rank")) == 6
    pairs = compared()["pairs"]
    np.testing.assert_allclose(pairs.specdyn.above_chance()["alignment_score"][0, 0], [1, 2, 3])
    assert list(pairs.specdyn.scores().data_vars) == ["alignment_score"]
    errors = xr.DataTree.from_dict({"/metrics": metrics([[0.9, 0.01, 0.01]], ["done"])})["metrics"]
    assert errors.specdyn.grok_step().grok_step.item() == 10


def test_means_that_would_mix_runs_are_refused() -> None:
    same = layers([[1, 1, 1], [2, 2, 2]], weight_decay=[0.0, 0.0], seed=[0, 0])
    with pytest.raises(ValueError, match="nothing distinguishes them"):
        sd.mean_over(same)
    with pytest.raises(ValueError, match="unknown over 'sede': known are seed, weight_decay; did you mean 'seed'"):
        sd.mean_over(same, "sede")
    with pytest.raises(ValueError, match="a data set with the dimension 'run'"):
        sd.mean_over(same.isel(run=0))


def compared() -> xr.DataTree:
    """Scores of a layer of 4 x 9 and of a pair of width 8, at once and twice chance, and the levels of a spectrum."""
    at = {"run": ["r"], "step": STEPS}
    agreement, alignment = 2 / np.pi / 6, np.sqrt(2 / (np.pi * 8))
    of_layers = xr.Dataset(
        {
            "agreement_score": (("run", "layer", "step"), agreement * np.array([[[1.0, 2.0, NAN]]])),
            "agreement_null": (("run", "layer"), [[agreement]]),
            "effective_rank": (("run", "layer", "step"), [[[0.8, 0.4, 0.2]]]),
            "null_effective_rank": (("run", "layer", "null"), [[[0.8, 0.4]]]),
            "mp_spikes": (("run", "layer", "step"), [[[0.0, 3.0, 6.0]]]),
            "null_mp_spikes": (("run", "layer", "null"), [[[0.0, 2.0]]]),
        },
        {**at, "layer": ["a"], "null": ["gaussian", "shuffled"]},
    )
    of_pairs = xr.Dataset(
        {
            "alignment_score": (("run", "pair", "step"), alignment * np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])),
            "alignment_null": (("run", "pair"), [[alignment, alignment]]),
            "gram_alignment": (("run", "pair", "step"), np.ones((1, 2, 3))),
        },
        {**at, "pair": ["x -> y", "q -> k"]},
    )
    heads = xr.Dataset(
        {"head_alignment_score": (("run", "attention", "step", "head"), alignment * np.full((1, 1, 3, 2), 4.0))},
        {**at, "attention": ["q -> k"], "head": [1, 2]},
    )
    return xr.DataTree.from_dict({"/layers": of_layers, "/pairs": of_pairs, "/attention": heads})


def test_values_are_divided_by_their_own_level() -> None:
    above = sd.above_chance(compared())
    np.testing.assert_allclose(above["layers"]["agreement_score"].squeeze(), [1, 2, NAN])
    ranks = above["layers"]["effective_rank"]
    assert ranks.dims == ("run", "layer", "step", "null")
    np.testing.assert_allclose(ranks.squeeze(), [[1, 2], [0.5, 1], [0.25, 0.5]])
    np.testing.assert_allclose(above["layers"]["mp_spikes"].squeeze(), [[NAN, 0], [NAN, 1.5], [NAN, 3]])
    np.testing.assert_allclose(above["pairs"]["alignment_score"].squeeze("run"), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(above["attention"]["head_alignment_score"], 4)
    assert "gram_alignment" not in above["pairs"]
    assert ranks.attrs["long_name"].endswith("/ its level by chance")


def test_named_variables_of_a_group_are_divided_and_others_are_not() -> None:
    pairs = compared()["pairs"].to_dataset()
    assert list(pairs.specdyn.above_chance("alignment_score")) == ["alignment_score"]
    with pytest.raises(ValueError, match=r"unknown variable 'alignment_scor'.*did you mean 'alignment_score'"):
        sd.above_chance(pairs, "alignment_scor")
    with pytest.raises(ValueError, match="of agreement_score in these results: the analysis null_levels"):
        sd.above_chance(pairs, "agreement_score")
    with pytest.raises(ValueError, match="null_levels measures them"):
        sd.above_chance(pairs.drop_vars("alignment_null"))


def test_scores_are_the_means_over_leading_ranks() -> None:
    found = compared().specdyn.scores()
    assert {group: list(found[group].data_vars) for group in found.children} == {
        "layers": ["agreement_score"],
        "pairs": ["alignment_score"],
        "attention": ["head_alignment_score"],
    }
    with pytest.raises(ValueError, match="the analyses agreement"):
        sd.scores(layers([[1, 2, 3]]))


def test_every_level_belongs_to_a_variable_and_fits_it() -> None:
    declared = {
        name: variable
        for analysis in (*map(get_analysis, analysis_names()), *LINE, *TICKET)
        for name, variable in analysis.variables.items()
    }
    assert set(CHANCE_OF) <= set(declared)
    alone = {"null_kept_energy"}  # of a share of the entries that nothing else measures
    assert set(CHANCE_OF.values()) | alone == set(null_levels.ANALYSIS.variables)
    for name, level in CHANCE_OF.items():
        of_level = set(declared[level].dims) - {"null"}
        assert of_level <= {"pair" if dim == "attention" else dim for dim in declared[name].dims}, name
    assert set(CHANCE_OF) > LOGARITHMS


def metrics(errors: list[list[float]], status: list[str]) -> xr.Dataset:
    """Validation errors of these runs; those on the training set are 0."""
    runs = len(errors)
    return xr.Dataset(
        {"err": (("run", "split", "step"), np.stack([np.zeros((runs, 3)), np.array(errors)], axis=1))},
        {"run": list("abcdefg")[:runs], "split": ["train", "val"], "step": STEPS, "status": ("run", status)},
    )


def test_a_run_groks_at_its_first_step_below_the_threshold() -> None:
    data = metrics(
        [[0.9, 0.04, 0.5], [0.9, 0.9, 0.9], [0.9, NAN, 0.01], [0.9, NAN, 0.01], [0.9, 0.3, NAN], [NAN] * 3],
        ["done", "done", "done", "partial", "partial", "planned"],
    )
    found = sd.grok_step(data)
    np.testing.assert_array_equal(found.grok_step, [10, NAN, 30, NAN, NAN, NAN])
    np.testing.assert_array_equal(found.grok_censored, [0, 1, 0, NAN, NAN, NAN])
    np.testing.assert_array_equal(data.specdyn.grok_step(0.5).grok_step, [10, NAN, 30, NAN, 10, NAN])
    tree = xr.DataTree.from_dict({"/metrics": data})
    xr.testing.assert_identical(tree.specdyn.grok_step(), found)
    with pytest.raises(ValueError, match="threshold=0 is not allowed"):
        sd.grok_step(data, 0)
    with pytest.raises(ValueError, match="expected the variable err of the group metrics"):
        sd.grok_step(tree.drop_nodes("metrics"))


def test_figures_are_the_ones_of_a_report() -> None:
    data = layers([[1, 0.9, 0.8], [1, 0.5, 0.2]], weight_decay=[0.0, 1.0], seed=[0, 0])
    figure = data.specdyn.plot.effective_rank(by="weight_decay")
    assert figure.get_suptitle() == "Effective rank of each layer by weight decay"
    lines = {line.get_color(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert [pytest.approx([1, 0.9, 0.8]), pytest.approx([1, 0.5, 0.2])] == list(lines.values())
    assert figure.axes[0].get_xlabel() in ("", "optimizer steps")
    by_seed = data.assign_coords(seed=("run", [0, 1])).specdyn.plot.effective_rank(by="seed")
    assert by_seed.get_suptitle() == "Effective rank of each layer by seed and weight decay"
    with pytest.raises(ValueError, match="no 'singular_value' in these results"):
        data.specdyn.plot.singular_values()
    with pytest.raises(ValueError, match="unknown figure 'ranks'"):
        sd.figure(data, "ranks")
    assert group_of(data) == "layers"
