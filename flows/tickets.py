"""The flow that prunes trunks, retrains them from a rewind point, and compares them with the dense run."""

from prefect import flow
from prefect.runtime import flow_run

from specdyn.flows.engine.imports import importing

with importing():
    from specdyn.flows.engine.form import takes
    from specdyn.flows.engine.run_study import run_study
    from specdyn.flows.engine.settings import chosen_store
    from specdyn.flows.outcome import Outcome
    from specdyn.flows.parameters import TicketParameters
    from specdyn.flows.studies import tickets_from


def _name() -> str:
    given = flow_run.parameters
    return f"{given.get('experiment')} lottery tickets" + (" (dry run)" if given.get("dry_run") else "")


@flow(name="lottery-tickets", flow_run_name=_name, persist_result=False)
@takes(TicketParameters)
def lottery_tickets(asked: TicketParameters) -> Outcome:
    """Prune trunks by their final weights, rewind to an early step, retrain, and compare with the dense run.

    Nothing that the store already has is computed again.
    """
    return run_study(tickets_from(asked), chosen_store(asked.store, asks=True), asked)
