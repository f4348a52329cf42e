"""Claims, advice and counter-examples as tables for programs."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from specdyn.tasks.verdicts.judging import Cubes

ENDS = ("low", "high")
OF_BOTH = ("ratio", "layers", "differ")


def claims(
    *studies: "str | xr.DataTree", store: str = "results", only: Sequence[str] = (), keep: bool = False
) -> "pd.DataFrame":
    """A row per claim and set of runs on which it is judged, failures first (CLAIMS 2.8).

    `studies` are names of studies in the store, or results of `open`; `only` the ids of claims, by default all.
    Columns: `claim`, `state` (`pass`, `fail`, `inconclusive`, `contested`, `not run`), `sentence`, `case`, `effect`
    (the quantity), `value`, `low`, `high` (its 90 % interval over seeds), `null`, `p`, `p_holm`, `n`, `runs`, `layers`,
    `exceptions`, `lost`, `notes`, `definitions`, `version` and `rule` among others; None where a number does not exist.
    With `keep`, verdicts on named studies are stored next to their cubes. ValueError for an unknown claim or study,
    StoreError for one without results.
    """
    import pandas as pd

    from specdyn.storage.probe import existing_store
    from specdyn.tasks.evidence.claim import chosen_claims
    from specdyn.tasks.verdicts.judging import Verdict, judge, plain
    from specdyn.tasks.verdicts.storing import keep as put
    from specdyn.tasks.verdicts.storing import open_cubes
    from specdyn.tasks.verdicts.tables import in_order

    chosen = chosen_claims(only)
    names = [study for study in studies if isinstance(study, str)]
    trees = [study for study in studies if not isinstance(study, str)]
    verdicts: list[Verdict] = []
    if names or not studies:
        place = existing_store(store)
        cubes = open_cubes(place, names)
        verdicts = judge(chosen, _with(cubes, trees))
        if keep:
            put(place, [one for one in verdicts if set(one.studies) <= set(names)])
    else:
        verdicts = judge(chosen, _with(None, trees))
    return pd.DataFrame([plain(one) for one in in_order(verdicts)], columns=[field.name for field in fields(Verdict)])


def _with(cubes: "Cubes | None", trees: "Sequence[xr.DataTree]") -> "Cubes":
    """Add opened cubes, by their titles."""
    from specdyn.tasks.verdicts.judging import Cubes

    found: dict[str, dict[str, xr.DataTree]] = {
        name: dict(getattr(cubes, name)) if cubes else {} for name in ("results", "connectivity", "tickets")
    }
    for tree in trees:
        kind = "connectivity" if "pair" in tree.dims else "tickets" if "ticket" in tree.dims else "results"
        found[kind][str(tree.attrs.get("sweep") or tree.attrs.get("title") or len(found[kind]))] = tree
    return Cubes(**found)


def advice(*studies: "str | xr.DataTree", store: str = "results") -> "pd.DataFrame":
    """A row for each weight decay of every grid in these studies: its effect on loss and rank, and whether too much.

    `studies` are names of sweeps in the store, or results of `open`. Columns: `case`, `weight_decay`, `loss` (on
    validation, at the end) and `rank` (effective rank / rank, without collapsed layers) with `loss_low`, `loss_high`,
    `rank_low`, `rank_high` (90 % intervals over seeds, NaN of one seed), `collapsed` (layers), `seeds`, `says` (`best`,
    `as good`, `too little`, `too much`, `collapse`, empty if undecided) and `sentence`. ValueError for an
    unknown study or one of lines or tickets, StoreError for one without results.
    """
    import pandas as pd

    from specdyn.storage.probe import existing_store
    from specdyn.tasks.verdicts.advice import advise, require_runs
    from specdyn.tasks.verdicts.storing import open_cubes

    names = [study for study in studies if isinstance(study, str)]
    cubes = open_cubes(existing_store(store), names) if names else None
    every = _with(cubes, [study for study in studies if not isinstance(study, str)])
    require_runs(every)
    found = advise(every.results)
    rows = [
        {
            "case": one.case,
            "weight_decay": level.weight_decay,
            **{name: getattr(level, name).mean for name in ("loss", "rank")},
            **{f"{name}_{end}": getattr(getattr(level, name), end) for name in ("loss", "rank") for end in ENDS},
            "collapsed": level.collapsed,
            "seeds": level.seeds,
            "says": level.says,
            "sentence": one.sentence,
        }
        for one in found
        for level in one.levels
    ]
    return pd.DataFrame(rows)


def counterexamples(
    *studies: "str | xr.DataTree", store: str = "results", below: float = 0.05, gap: float = 0.5
) -> "pd.DataFrame":
    """Pairs of runs on one task in which the run that generalises has the higher effective rank (CLAIMS 2.9).

    `studies` are names of sweeps in the store, or results of `open`. Both runs have a final training error below
    `below`; one has its validation error below it too, the other's exceeds `gap`. Runs are on one task if all settings
    of data and network agree; seeds and the rest may differ. Runs with a collapsed layer are left out. Columns: `task`;
    with the suffixes `_generalises` and `_memorises` each `run`, `study`, `seed`, `rank` (effective rank / rank, mean
    over layers), `train_error` and `val_error`; `ratio` (of ranks, by which rows are sorted), `layers` (share of layers
    with the higher rank) and `differ` (settings). No rows means no counter-example among `attrs["pairs"]` pairs.
    ValueError if no two runs can be compared, StoreError for a study without results.
    """
    import pandas as pd

    from specdyn.storage.probe import existing_store
    from specdyn.tasks.verdicts.counterexamples import FACTS, search
    from specdyn.tasks.verdicts.storing import open_cubes

    names = [study for study in studies if isinstance(study, str)]
    cubes = open_cubes(existing_store(store), names) if names else None
    searched = search(_with(cubes, [study for study in studies if not isinstance(study, str)]).results, below, gap)
    rows = [
        {
            "task": one.task,
            **{f"{name}_generalises": value for name, value in one.generalises.facts.items()},
            **{f"{name}_memorises": value for name, value in one.memorises.facts.items()},
            **{name: getattr(one, name) for name in OF_BOTH},
        }
        for one in searched.examples
    ]
    ends = [f"{name}_{of}" for of in ("generalises", "memorises") for name in FACTS]
    found = pd.DataFrame(rows, columns=["task", *ends, *OF_BOTH])
    found.attrs["pairs"] = searched.pairs
    return found
