"""The flow that trains trunks and branches and measures the lines between the branches' ends."""

from prefect import flow
from prefect.runtime import flow_run

from specdyn.flows.engine.imports import importing

with importing():
    from specdyn.flows.engine.form import takes
    from specdyn.flows.engine.run_study import run_study
    from specdyn.flows.engine.settings import chosen_store
    from specdyn.flows.outcome import Outcome
    from specdyn.flows.parameters import ConnectParameters
    from specdyn.flows.studies import connectivity_from


def _name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} connectivity" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="mode-connectivity", flow_run_name=_name, persist_result=False)
@takes(ConnectParameters)
def mode_connectivity(asked: ConnectParameters) -> Outcome:
    """Fork trunks at several steps, train the branches with different data orders, measure lines between their ends.

    Nothing that the store already has is computed again.
    """
    return run_study(connectivity_from(asked), chosen_store(asked.store, asks=True), asked)
