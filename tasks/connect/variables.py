"""Declares the variables of lines between trained networks (METHOD 4.8) and of lottery tickets (METHOD 4.7).

The computing modules are imported only when computing, as reading results does not need them.
"""

from specdyn.storage.schema import SPLITS, Variable
from specdyn.tasks.connect.ids import TICKET_VERSION
from specdyn.tasks.later import Later
from specdyn.tasks.spectra.analysis import Analysis
from specdyn.tasks.spectra.labels import HALVES, SIDES, SUBSPACES

BETWEEN, TICKETS = "specdyn.tasks.connect.between", "specdyn.tasks.connect.tickets"
"""Where it is computed."""


def _variable(dims: tuple[str, ...], long_name: str, about: str, dtype: str = "float32") -> Variable:
    return Variable(dims=dims, long_name=long_name, about=f"{about}; METHOD 4.8", dtype=dtype)


def _plain(dims: tuple[str, ...], long_name: str, about: str) -> Variable:
    return Variable(dims=dims, long_name=long_name, about=about)


BY_RANK, OF_SUBSPACES = ("layer", "rank"), ("layer", "side", "subspace")
DIAGONAL = "|<u_i, u'_i> <v_i, v'_i>|"
LINE = (
    Analysis(
        name="points",
        version=1,
        of="line",
        labels={"kept": ("all", *HALVES), "split": SPLITS},
        variables={
            "effective_rank": _variable(
                ("alpha", "layer"), "effective rank / rank", "exp(-sum p log p) / R, p = s / sum s"
            ),
            "singular_value": _variable(
                ("alpha", "layer", "rank"), "singular value", "s_i of the blended matrix, descending"
            ),
            "{metric}": Variable(dims=("alpha", "kept", "split"), long_name="{metric}"),
            "stored_{metric}": Variable(
                dims=("alpha", "split"),
                long_name="{metric}, statistics of BatchNorm blended, not estimated anew",
            ),
        },
        compute=Later(BETWEEN, "points"),
    ),
    Analysis(
        name="ends",
        version=1,
        of="line",
        labels={"side": SIDES, "subspace": SUBSPACES},
        variables={
            "agreement": _variable(BY_RANK, "agreement of the ends, same rank", DIAGONAL),
            "agreement_best_match": _variable(BY_RANK, "agreement of the ends, best match", "one-to-one, largest sum"),
            "agreement_score": _variable(("layer",), "agreement of the ends, first 10 ranks", "mean over i up to 10"),
            "agreement_null": _variable(("layer",), "agreement of two random matrices", "(2 / pi) / sqrt(M N)"),
            "subspace_overlap": _variable(
                OF_SUBSPACES, "overlap of the ends' leading subspaces", "||U_k' U'_k||^2 / k"
            ),
            "distance": _variable((), "distance of the ends", "||A - B|| over all layers", "float64"),
            "cosine": _variable((), "cosine of the ends", "<A, B> / (||A|| ||B||) over all layers", "float64"),
        },
        compute=Later(BETWEEN, "of_ends"),
    ),
    Analysis(
        name="matched",
        version=1,
        of="line",
        variables={
            "matched_subspace_overlap": _variable(
                OF_SUBSPACES, "overlap of the ends' leading subspaces, units matched", "||U_k' U'_k||^2 / k"
            ),
            "matched_agreement": _variable(BY_RANK, "agreement of the ends, units matched", DIAGONAL),
            "matched_agreement_best_match": _variable(BY_RANK, "best match of the ends, units matched", "one-to-one"),
            "matched_agreement_score": _variable(
                ("layer",), "agreement, units matched, first 10 ranks", "mean over i up to 10"
            ),
            "matched_distance": _variable((), "distance of the ends, units matched", "||A - P B||", "float64"),
            "matched_{metric}": Variable(dims=("alpha", "split"), long_name="{metric}, units of the other end matched"),
        },
        compute=Later(BETWEEN, "matched"),
    ),
    Analysis(
        name="curve",
        version=1,
        of="line",
        variables={
            "curve_{metric}": Variable(
                dims=("alpha", "split"), long_name="{metric}, on a curve whose control point is trained"
            )
        },
        compute=Later(BETWEEN, "on_curve"),
    ),
    Analysis(
        name="layers",
        version=1,
        of="line",
        variables={
            "layer_{metric}": Variable(
                dims=("alpha", "layer", "split"),
                long_name="{metric}, one layer on the line and the others at the first end",
            )
        },
        compute=Later(BETWEEN, "layer_by_layer"),
    ),
)
"""Analyses of a line; arrays of one pair, without the cube's dimension `pair`."""

BY_STEP, BY_LAYER = ("step", "layer"), ("layer",)
FIRST = "mean of the first 10 ranks"
TICKET = (
    Analysis(
        name="checkpoints",
        version=TICKET_VERSION,
        of="ticket",
        labels={"split": SPLITS},
        variables={
            "agreement_dense": _plain((*BY_STEP, "rank"), "agreement with the dense run, same step", "METHOD 4.7"),
            "agreement_dense_score": _plain(BY_STEP, f"agreement with the dense run, {FIRST}", "METHOD 4.7"),
            "agreement": _plain((*BY_STEP, "rank"), "agreement with the ticket's own end", "METHOD 4.2"),
            "agreement_score": _plain(BY_STEP, f"agreement with the ticket's own end, {FIRST}", "METHOD 5"),
            "effective_rank": _plain(BY_STEP, "effective rank / rank", "exp(-sum p log p) / R, p = s / sum s"),
            "{metric}": Variable(dims=("step", "split"), long_name="{metric}"),
        },
        compute=Later(TICKETS, "of_checkpoints"),
    ),
    Analysis(
        name="mask",
        version=TICKET_VERSION,
        of="ticket",
        variables={
            "agreement_mask": _plain(
                (*BY_LAYER, "rank"), "agreement of the dense end with what the mask leaves of it", "METHOD 4.7"
            ),
            "agreement_mask_score": _plain(BY_LAYER, f"agreement of dense with masked, {FIRST}", "METHOD 4.7"),
            "agreement_null": _plain(BY_LAYER, "agreement of two random matrices", "(2 / pi) / sqrt(M N)"),
            "kept_energy": _plain(
                BY_LAYER, "squares of the dense end's weights that the mask keeps", "share of their sum"
            ),
            "layer_density": _plain(BY_LAYER, "share of the layer's weights that the mask keeps", "kept / all"),
            "overlap": _plain(
                BY_LAYER, "overlap with the magnitude mask of this density", "kept in both / kept in either"
            ),
        },
        compute=Later(TICKETS, "of_mask"),
    ),
)
"""Analyses of a ticket; arrays of one ticket, without the cube's dimension `ticket`."""
