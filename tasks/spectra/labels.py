"""Labels, chance levels and versions of measurements, importable without torch and scipy."""

DRIVERS = ("missing", "svd_float32", "gram_float64", "svd_float64")
"""Meanings of `Factors.driver`, and of the stored variable `driver`."""
SIDES = ("left", "right")
HALVES = ("top", "bottom")
"""The halves of the singular values that are kept."""
SUBSPACES = (1, 2, 4, 8, 16, 32, 64)
"""Dimensions of the leading subspaces that are compared."""
NULLS = ("gaussian", "shuffled")
"""Labels of the dimension `null`."""
COMPONENTS = 10
"""Number of stored principal components of a trajectory."""
FACTS_VERSION = 1
"""Increase when a number in facts.py changes: cubes are then gathered again."""
COORDINATES_VERSION = 1
"""Increase when coordinates are added to cubes: they are then gathered again, without decompositions."""

OF_SPECTRA = (
    "effective_rank",
    "spectral_norm",
    "nuclear_norm",
    "condition_number",
    "entropy",
    "svd_entropy",
    "renyi_entropy",
    "stable_rank",
    "participation_ratio",
    "energy_rank",
    "gini",
    "top_half_energy",
    "mp_spikes",
    "mp_spikes_finite",
    "mp_below",
    "mp_soft_rank",
    "mp_ks",
    "mp_wasserstein",
    "power_law_alpha",
    "power_law_distance",
    "power_law_tail",
    "power_law_alpha_hat",
    "power_law_log_alpha_norm",
)
"""Variables that are also measured, by the same functions, on unstructured matrices."""
COMPARED = ("", "_initial", "_previous")
"""Other checkpoints with which a layer's vectors are compared."""

CHANCE_OF = {
    **{name: f"null_{name}" for name in OF_SPECTRA},
    **{f"agreement{other}{part}": "agreement_null" for other in COMPARED for part in ("", "_score")},
    **dict.fromkeys(("agreement_block", "agreement_full"), "agreement_null"),
    **dict.fromkeys((f"agreement_{of}{part}" for of in ("dense", "mask") for part in ("", "_score")), "agreement_null"),
    **{f"agreement{other}_best_match": "agreement_best_match_null" for other in COMPARED},
    **{f"subspace_overlap{other}": "subspace_overlap_null" for other in COMPARED},
    **{f"{of}alignment{part}": "alignment_null" for of in ("", "part_", "head_") for part in ("", "_score")},
    "weighted_alignment": "weighted_alignment_null",
}
"""Variable -> the variable with its chance level (CLAIMS 2.7); the only such table."""
LOGARITHMS = frozenset({"power_law_log_alpha_norm"})
"""Variables whose ratio to their chance level is meaningless."""
