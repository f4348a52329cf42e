"""The studies on which claims are measured, by tier: S for two cores, M for one GPU, L for a cluster (CLAIMS 2.8).

XS has the studies of S at sizes that test an installation in minutes but decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from specdyn.models.spec.checks import require_known
from specdyn.tasks.evidence.claim import TIERS, Claim, Tier

Command = Literal["run", "connect", "tickets"]
SEEDS = (0, 1, 2)
FIVE = (0, 1, 2, 3, 4)
ORDERS = (10, 11, 12)
"""Seeds of data orders that no trunk uses."""
ANALYSES = (
    *("spectrum", "effective_rank", "agreement", "alignment", "norms", "null_levels", "performance"),
    *("pruning", "pruning_controls"),
)
"""Analyses that the claims need."""
MASKS = ("magnitude", "random", "shuffled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A study with its parameters."""

    name: str
    """Name of its results in the store."""
    command: Command
    experiment: str
    preset: str
    given: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the command by name."""
    norms_of: str = ""
    """The study of the same tier whose decayed runs provide the norms of this study's runs."""


def _one(name: str, command: Command, experiment: str, preset: str, **given: Any) -> Declared:
    """A study, by default with the analyses that the claims need."""
    own = {"analyses": list(ANALYSES)} if command == "run" else {}
    return Declared(name=name, command=command, experiment=experiment, preset=preset, given={**own, **given})


def _networks(
    tier: str,
    preset: str,
    grids: Mapping[str, Sequence[float]],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Declared, ...]:
    """A sweep of each experiment over its weight decays."""
    return tuple(
        _one(
            f"{tier}-{experiment}",
            "run",
            experiment,
            preset,
            weight_decays=list(grid),
            seeds=list(SEEDS),
            settings=dict((settings or {}).get(experiment, {})),
        )
        for experiment, grid in grids.items()
    )


SAMPLE_GRIDS = {
    "image_classification": (0.0, 1e-2, 0.1),
    "image_generation": (0.0, 1.0, 10.0),
    "speech_recognition": (0.0, 1.0, 10.0),
    "language_modelling": (0.0, 1.0, 10.0),
}
FIGURE_GRIDS = {
    "image_classification": (0.0, 1e-4, 1e-3, 1e-2, 0.1),
    "image_generation": (0.0, 0.1, 1.0, 10.0),
    "speech_recognition": (0.0, 0.1, 1.0, 10.0),
    "language_modelling": (0.0, 0.1, 1.0, 10.0),
}
WHOLE_GRID = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
SAMPLE_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "image_classification": {"steps": 160, "checkpoint_every": 32, "early_checkpoints": 0},
    "image_generation": {"steps": 80, "checkpoint_every": 20},
    "speech_recognition": {"checkpoint_every": 20},
    "language_modelling": {"checkpoint_every": 50, "early_checkpoints": 0},
}
"""Fewer steps and checkpoints than the presets', to save time."""
FINE = {"checkpoint_every": 20}
"""Settings of runs that grok: the earliest near step 550, and G2 needs checkpoints at most 5 % of that apart."""
SHORT = {"weight_decay": 2.0, "steps": 800, "checkpoint_every": 50}
"""Settings of the trunks of tickets and lines on modular addition."""
TINY = {"steps": 40, "checkpoint_every": 10}

STUDIES: Mapping[str, Mapping[str, tuple[Declared, ...]]] = {
    "S": {
        "grokking-s": tuple(
            _one(*("s-grokking", "run", "modular_addition", "demo"), weight_decays=decays, seeds=seeds, settings=FINE)
            for decays, seeds in (([0.0, 1.0, 2.0], list(SEEDS)), ([1.0], [3, 4]))
        ),
        "samples-s": _networks("s", "sample", SAMPLE_GRIDS, SAMPLE_SETTINGS),
        "tickets-s": tuple(
            _one(
                "s-tickets",
                "tickets",
                "modular_addition",
                "demo",
                seeds=list(SEEDS),
                rewind=50,
                densities=densities,
                masks=masks,
                orders=[10],
                settings=SHORT,
            )
            for densities, masks in (([0.05, 0.2, 0.5], ["magnitude"]), ([0.05], ["random", "shuffled"]))
        ),
        "lines-s": (
            _one(
                "s-lines",
                "connect",
                "modular_addition",
                "demo",
                seeds=list(SEEDS),
                splits=[0, 50, 200, 400, 600],
                orders=list(ORDERS),
                sizes=[0.0, 0.1, 0.5, 1.0, 2.5],
                points=5,
                settings=SHORT,
            ),
        ),
    },
    "M": {
        "grokking-m": (_one("m-grokking", "run", "modular_addition", "paper", seeds=list(SEEDS)),),
        "data-rich-m": (_one("m-data-rich", "run", "modular_addition", "data-rich", seeds=list(SEEDS)),),
        "slingshot-m": (_one("m-slingshot", "run", "modular_addition", "slingshot", seeds=list(SEEDS)),),
        "networks-m": _networks("m", "paper", FIGURE_GRIDS),
        "labels-m": (
            _one(
                "m-labels",
                "run",
                "image_classification",
                "mlp-true",
                weight_decays=[0.0],
                seeds=list(FIVE),
                axes={"labels": ["true", "random"]},
                settings={"learning_rate": 1e-3},
            ),
        ),
        "noise-m": (
            _one(
                "m-noise",
                "run",
                "image_classification",
                "mlp-true",
                weight_decays=[0.0],
                seeds=list(FIVE),
                axes={"noise": [0.0, 0.25, 0.5, 0.75, 1.0]},
                settings={"learning_rate": 1e-3},
            ),
        ),
        "rates-m": (
            _one(
                "m-rates",
                "run",
                "image_classification",
                "mlp-true",
                weight_decays=[0.0],
                seeds=list(SEEDS),
                axes={"learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 0.1]},
            ),
        ),
        "crossed-m": tuple(
            _one(
                f"m-crossed-{optimizer}",
                "run",
                "image_classification",
                "paper",
                weight_decays=[0.0, 1e-3, 1e-2, 0.1, 1.0],
                seeds=list(SEEDS),
                settings={"optimizer": optimizer, "learning_rate": rate},
            )
            for optimizer, rate in (("sgd", 0.1), ("adamw", 1e-3))
        ),
        "norms-m": (
            _one("m-grokking", "run", "modular_addition", "paper", seeds=list(SEEDS)),
            replace(
                _one("m-norms", "run", "modular_addition", "paper", weight_decays=[0.0], seeds=list(SEEDS)),
                norms_of="m-grokking",
            ),
        ),
        "tickets-m": (
            _one(
                "m-tickets",
                "tickets",
                "image_classification",
                "paper",
                seeds=list(SEEDS),
                rewind_epoch=4.0,
                densities=[0.01, 0.05, 0.2],
                masks=list(MASKS),
                orders=[10],
            ),
        ),
        "lines-m": (
            _one(
                "m-lines",
                "connect",
                "image_classification",
                "paper",
                seeds=list(SEEDS),
                split_count=10,
                orders=list(ORDERS),
                sizes=[0.0, 0.1, 0.25, 0.5, 1.0, 2.5],
            ),
        ),
    },
}

_TINY_STUDIES: Mapping[str, tuple[Declared, ...]] = {
    "grokking-s": (
        _one(
            "xs-grokking",
            "run",
            "modular_addition",
            "smoke",
            weight_decays=[0.0, 1.0, 2.0],
            seeds=[0, 1],
            settings=TINY,
        ),
    ),
    "tickets-s": (
        _one(
            "xs-tickets",
            "tickets",
            "modular_addition",
            "smoke",
            seeds=[0],
            rewind=10,
            densities=[0.2],
            masks=["magnitude", "random"],
            orders=[10],
            settings={"weight_decay": 1.0, **TINY},
        ),
    ),
    "lines-s": (
        _one(
            "xs-lines",
            "connect",
            "modular_addition",
            "smoke",
            seeds=[0, 1],
            splits=[0, 20],
            orders=[10, 11],
            points=3,
            settings={"weight_decay": 1.0, **TINY},
        ),
    ),
}


def tiers() -> tuple[str, ...]:
    """All tiers."""
    return ("XS", *TIERS)


def studies_of(tier: str, claims: Sequence[Claim]) -> list[Declared]:
    """The studies of a tier that claims need, without repetition; ValueError for an unknown tier or study."""
    require_known("tier", tier, tiers())
    needed = [name for claim in claims for name in claim.needs.get(needs_of(tier), ())]
    table = _table(tier)
    found: list[Declared] = []
    for name in dict.fromkeys(needed):
        if tier == "XS" and name not in table:
            continue
        require_known(f"study of tier {tier}", name, table)
        found += [one for one in table[name] if one not in found]
    return found


def needs_of(tier: str) -> Tier:
    """The tier under which claims list the needed studies."""
    return "S" if tier == "XS" else cast(Tier, tier)


def _table(tier: str) -> Mapping[str, tuple[Declared, ...]]:
    if tier == "XS":
        return _TINY_STUDIES
    if tier == "L":
        return {**STUDIES["M"], "networks-l": _networks("l", "paper", dict.fromkeys(FIGURE_GRIDS, WHOLE_GRID))}
    return STUDIES[tier]
