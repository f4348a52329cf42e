"""The flow that analyses other programs' checkpoints and gathers the results like those of a sweep."""

from prefect import flow

from specdyn.flows.engine.imports import importing

with importing():
    from specdyn.flows.engine.form import takes
    from specdyn.flows.engine.run_study import run_study
    from specdyn.flows.engine.settings import chosen_store
    from specdyn.flows.outcome import Outcome
    from specdyn.flows.parameters import AnalyseParameters
    from specdyn.flows.studies import series_from


@flow(name="checkpoint-analysis", persist_result=False)
@takes(AnalyseParameters)
def analyse_checkpoints(asked: AnalyseParameters) -> Outcome:
    """Analyse series of checkpoints from any program, and gather the results in one cube.

    Layers are read one at a time; blocks that the store already has are not computed again.
    """
    return run_study(series_from(asked), chosen_store(asked.store, asks=True), asked)
