"""The flow that trains a grid of weight decays and seeds, analyses every run and gathers the results."""

from prefect import flow
from prefect.runtime import flow_run

from specdyn.flows.engine.imports import importing

with importing():
    from specdyn.flows.engine.firing import lost_parameters
    from specdyn.flows.engine.form import takes
    from specdyn.flows.engine.run_study import run_study
    from specdyn.flows.engine.settings import chosen_store
    from specdyn.flows.outcome import Outcome
    from specdyn.flows.parameters import SweepParameters
    from specdyn.flows.studies import sweep_from


def _flow_run_name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} {given.get('preset')}" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="weight-decay-sweep", flow_run_name=_flow_run_name, persist_result=False)
@takes(SweepParameters)
def weight_decay_sweep(asked: SweepParameters) -> Outcome:
    """Train a grid of weight decays and seeds, analyse every checkpoint, gather one cube.

    Runs that the store already has are not computed again; calls with the same sweep name extend it, one at a time.
    Runs that diverged stay failed, unless `retry_failed` trains them again.
    """
    if lost := lost_parameters():
        outcome: Outcome = weight_decay_sweep.fn(**weight_decay_sweep.validate_parameters(lost))
        return outcome
    return run_study(sweep_from(asked), chosen_store(asked.store, asks=True), asked)
