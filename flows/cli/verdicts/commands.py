"""Declares `specdyn claims` and `replicate`: verdicts on studies, and the studies that a tier needs."""

from typing import Annotated

import typer

from specdyn.flows.cli.options import StoreOption, friendly, studies


@friendly
def claims(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of studies (see `specdyn list studies`); without any, the claims themselves.",
            autocompletion=studies,
            metavar="[STUDY]...",
        ),
    ] = None,
    store: StoreOption = "results",
    only: Annotated[
        str | None, typer.Option("--only", help="Claims, e.g. `g1,w1`. Default: all.", show_default=False)
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Show all stored verdicts; judge nothing.")] = False,
    advice: Annotated[
        bool, typer.Option("--advice", help="Show what each weight decay of a grid does, and which is too much.")
    ] = False,
    counterexamples: Annotated[
        bool,
        typer.Option(
            "--counterexamples", help="Show runs that generalise at a higher rank than runs that memorise one task."
        ),
    ] = False,
) -> None:
    """Judge claims on studies by rules that were fixed beforehand: pass, fail, inconclusive, contested or not run.

    Verdicts are stored next to the results with the version of their rule, and never replaced.

    Example: `specdyn claims modular_addition-demo --only g1,w1`
    """
    from specdyn.flows.cli.options import words
    from specdyn.flows.cli.verdicts.judged import (
        show_advice,
        show_claims,
        show_counterexamples,
        show_history,
        show_verdicts,
    )

    chosen = words(only, "only") if only is not None else []
    if not sweeps:
        show_claims(chosen)
    elif advice:
        show_advice(sweeps, store)
    elif counterexamples:
        show_counterexamples(sweeps, store)
    elif history:
        show_history(sweeps, store, chosen)
    else:
        show_verdicts(sweeps, store, chosen)


@friendly
def replicate(
    tier: Annotated[
        str, typer.Option(help="`S` (two cores, half an hour), `M` (one GPU), `L` (a cluster); `XS` is a quick trial.")
    ] = "S",
    store: StoreOption = "results",
    only: Annotated[
        str | None, typer.Option("--only", help="Claims, e.g. `g1,w1`. Default: all of the tier.", show_default=False)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what is left and what it costs; run nothing.")] = False,
    executor: Annotated[str, typer.Option(help="`ray` (parallel) or `inline`.")] = "ray",
) -> None:
    """From nothing to verdicts: run the studies that the claims of a tier need, judge the claims, write a report.

    An interrupted call continues where it stopped. The report lists failed claims first.

    Example: `specdyn replicate --tier S --plan`
    """
    from specdyn.flows.cli.options import words
    from specdyn.flows.cli.verdicts.replication import replicate as start

    if not start(tier, store, words(only, "only") if only is not None else [], plan, executor):
        raise typer.Exit(1)
