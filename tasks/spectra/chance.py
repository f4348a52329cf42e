"""Which variable says what chance alone makes of another one (CLAIMS 2.7): the only table of these pairs."""

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
"""Measured again, by the same functions, of matrices without structure."""
COMPARED = ("", "_initial", "_previous")
"""Other checkpoints that a layer's vectors are compared with."""

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
"""Variable -> the variable with its level by chance."""
LOGARITHMS = frozenset({"power_law_log_alpha_norm"})
"""Those of which a ratio to that level says nothing."""
