"""`specdyn claims`: prints claims, verdicts on studies, and stored verdicts."""

from collections.abc import Sequence

from specdyn.flows.cli.options import err, out
from specdyn.flows.cli.terminal import table
from specdyn.models.wording import plural
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store
from specdyn.tasks.evidence.claim import CLAIMS, chosen_claims
from specdyn.tasks.verdicts.judging import Verdict
from specdyn.tasks.verdicts.storing import judge_studies, keep, kept, open_cubes
from specdyn.tasks.verdicts.tables import HEADINGS as VERDICTS
from specdyn.tasks.verdicts.tables import in_order, verdict_rows

RESTS_ON = ("claim", "verdict", "says", "runs", "layers", "exceptions", "missing", "notes", "rule")


def show_claims(only: Sequence[str]) -> None:
    """Print the claims and their sources; reads only the declarations."""
    from specdyn.models.plugins import kinds

    rows = [
        (one.title, str(one.version), one.statement, one.source, kinds.origin(CLAIMS, one.name) or "-")
        for one in chosen_claims(only)
    ]
    table("Claims", ("claim", "version", "says", "source", "from"), rows)
    unusable = [(one.name, one.place, one.why) for one in kinds.broken(CLAIMS)]
    if unusable:
        table("Claims that cannot be used", ("claim", "from", "why"), unusable)


def show_verdicts(studies: Sequence[str], store: str, only: Sequence[str]) -> None:
    """Judge claims on studies, print the verdicts and store them, or print why they cannot be stored."""
    place, chosen = existing_store(store), chosen_claims(only)
    verdicts = judge_studies(place, studies, chosen)
    show(f"Verdicts on {', '.join(studies)} in {place}", verdicts)
    say_kept(place, verdicts)


def say_kept(place: Store, verdicts: Sequence[Verdict]) -> None:
    """Store verdicts, and print how many are new or why they are not stored."""
    try:
        put = keep(place, verdicts)
    except (StoreError, OSError) as error:
        err.print(f"not stored: {error}", markup=False)
        return
    out.print(f"stored       {plural(put, 'new verdict')} next to the results")


def show_history(studies: Sequence[str], store: str, only: Sequence[str]) -> None:
    """Print every stored verdict on studies, with the version of its rule; judges nothing."""
    place, names = existing_store(store), {claim.name for claim in chosen_claims(only)}
    rows = [
        (study, one.made, f"{one.title} v{one.version}", one.state, one.sentence)
        for study in studies
        for one in kept(place, study)
        if not only or one.claim in names
    ]
    table(f"Stored verdicts in {place}", ("study", "made", "claim", "verdict", "says"), rows)


def show(title: str, verdicts: Sequence[Verdict]) -> None:
    """Print verdicts as a table, failures first, and what each rests on."""
    ordered = in_order(verdicts)
    table(title, VERDICTS, verdict_rows(ordered))
    rows = [
        (
            one.title,
            one.state,
            one.sentence,
            *(", ".join(cell) or "-" for cell in (one.runs, one.layers, one.exceptions, one.lost, one.notes)),
            f"v{one.version} {one.rule}",
        )
        for one in ordered
        if one.state != "not run"
    ]
    if out.stderr:  # programs read all of it
        table("What they rest on", RESTS_ON, rows)
        return
    for one in ordered:
        out.print(f"  {one.sentence}", markup=False)


def show_advice(studies: Sequence[str], store: str) -> None:
    """Print what each weight decay of a grid does, and a summary; writes nothing. ValueError without a grid."""
    from specdyn.tasks.verdicts.advice import HEADINGS, advice_rows, advise, require_runs

    cubes = open_cubes(existing_store(store), studies)
    require_runs(cubes)
    found = advise(cubes.results)
    if not found:
        raise ValueError(f"no grid of two weight decays in {', '.join(studies)}")
    for advice in found:
        table(advice.case, HEADINGS, advice_rows(advice))
    for advice in found:
        out.print(f"  {advice.sentence}", markup=False)


def show_counterexamples(studies: Sequence[str], store: str) -> None:
    """Print runs that generalise at a higher rank than runs that memorise; ValueError if none are comparable."""
    from specdyn.tasks.verdicts.counterexamples import HEADINGS, counterexample_rows, search

    searched = search(open_cubes(existing_store(store), studies).results)
    if rows := counterexample_rows(searched):
        table("Counter-examples", HEADINGS, rows)
    out.print(searched.sentence, markup=False)
