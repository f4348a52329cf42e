"""The flow that masks trunks, trains what is left from a rewind point, and compares it with the dense run."""

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
    """Mask trunks by their last weights, train what is left from an early step, compare it with the dense run.

    What the store already has is not computed again.
    """
    return run_study(tickets_from(asked), chosen_store(asked.store, asks=True), asked)
