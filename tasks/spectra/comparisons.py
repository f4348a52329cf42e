"""Declares the variables that compare two checkpoints' singular vectors (METHOD 4.2)."""

from specdyn.storage.schema import Variable


def variables(suffix: str, other: str) -> dict[str, Variable]:
    """Declarations of the values returned by `agreement.compare`; `other` names the other checkpoint."""
    return {
        f"agreement{suffix}": Variable(
            dims=("layer", "step", "rank"),
            long_name=f"agreement with the {other}, same rank",
            chunks={"rank": 16},
            about="|<u_i, u'_i> <v_i, v'_i>|; a random pair of M x N matrices has (2 / pi) / sqrt(M N); METHOD 4.2",
        ),
        f"agreement{suffix}_best_match": Variable(
            dims=("layer", "step", "rank"),
            long_name=f"agreement with the {other}, best one-to-one match",
            chunks={"rank": 16},
            about="entries of the assignment of current to other ranks that maximises their sum; CLAIMS 5.7",
        ),
        f"agreement{suffix}_score": Variable(
            dims=("layer", "step"),
            long_name=f"agreement with the {other}, mean of the first 10 ranks",
            about="mean of |<u_i, u'_i> <v_i, v'_i>| over i up to 10; METHOD 5",
        ),
        f"subspace_overlap{suffix}": Variable(
            dims=("layer", "step", "side", "subspace"),
            long_name=f"overlap of the leading subspace with that of the {other}",
            about="||U_k' U'_k||_F^2 / k, and the same of V; k / M (k / N) by chance; CLAIMS 5.7",
        ),
    }
