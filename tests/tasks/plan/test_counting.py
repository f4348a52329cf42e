"""Counts made before the work against those that the work reports."""

import dataclasses
import functools
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.convnet import ResNet
from specdyn.models.nets.mlp import Mlp
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import StartFrom, Ticket
from specdyn.storage.places import Store
from specdyn.tasks.connect.line import connect, decompose_end, measure_end
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.tickets import decompose_dense, examine
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation import evaluator
from specdyn.tasks.plan.cost import Cost, Rates
from specdyn.tasks.plan.counting import Counter
from specdyn.tasks.training import training
from specdyn.tasks.work import Work

train = functools.partial(training.train, device=torch.device("cpu"))
ADDITION = dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, steps=20)
IMAGES = dataclasses.replace(get_experiment("image_classification").preset("smoke").spec, steps=4)
# With units that can be matched and without, with BatchNorm and without.
TRUNKS = {
    "MLP": dataclasses.replace(ADDITION, net=Mlp(width=12)),
    "BiLSTM": dataclasses.replace(get_experiment("speech_recognition").preset("smoke").spec, steps=2),
    "VGG": IMAGES,
    "ResNet": dataclasses.replace(IMAGES, net=ResNet(width=2, blocks=1)),
}


def branch(trunk: RunSpec, order: int, ticket: Ticket | None = None) -> RunSpec:
    """A branch from the start, or a ticket."""
    return dataclasses.replace(trunk, start=StartFrom(run_id=trunk.run_id, step=0, order=order, ticket=ticket))


@pytest.fixture(scope="module", params=TRUNKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, str]:
    """A trunk and the store in which it and two branches are finished, their ends not measured."""
    trunk, store = TRUNKS[request.param], str(tmp_path_factory.mktemp("store"))
    if needed := get_experiment(trunk.experiment).dataset(trunk):
        require_data(Store(store), get_dataset(*needed))
    train(trunk, Store(store), (0,))
    for order in (5, 6):
        train(branch(trunk, order), Store(store))
    return trunk, store


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one for every estimate of BatchNorm's statistics."""
    made: list[bool] = []
    real = evaluator.estimate_batch_norm

    def counted(net: nn.Module, batches: Iterable[Tensor]) -> None:
        if any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
            made.append(True)
        real(net, batches)

    monkeypatch.setattr(evaluator, "estimate_batch_norm", counted)
    return made


@pytest.mark.parametrize(
    "options",
    [{"points": 3}, {"points": 5, "curve_steps": 2}, {"points": 3, "layerwise": True}],
    ids=["line", "curve", "layers"],
)
def test_ends_and_pairs_take_what_was_counted(
    options: dict[str, int], trained: tuple[RunSpec, str], renewals: list[bool]
) -> None:
    trunk, store = trained
    pair = Pair(a=branch(trunk, 5), b=branch(trunk, 6), kind="within", **options)  # type: ignore[arg-type]
    counter = Counter(trunk)
    for spec in (pair.a, pair.b):
        if (made := decompose_end(spec, Store(store))) != Work():
            assert Work(decompositions=counter.factors_of_end().decompositions) == made
        renewals.clear()
        if (made := measure_end(spec, pair.a, Store(store))) != Work():
            end = counter.end()
            assert (end.evaluations, end.decompositions, end.renewals) == (
                made.evaluations,
                made.decompositions,
                len(renewals),
            )
    renewals.clear()
    made, counted = connect(pair, Store(store)), counter.pair(pair)
    assert made.evaluations > 0 and made.decompositions > 0
    assert (counted.evaluations, counted.decompositions, counted.renewals) == (
        made.evaluations,
        made.decompositions,
        len(renewals),
    )
    assert counted.updates == pair.curve_steps


def test_tickets_take_what_was_counted(trained: tuple[RunSpec, str], renewals: list[bool]) -> None:
    trunk, store = trained
    spec = branch(trunk, 7, Ticket(density=0.5, mask_seed=1))
    steps = train(spec, Store(store)).steps
    dense = Counter(trunk).factors_of_dense(len(steps))
    assert Work(dense.evaluations, dense.decompositions) == decompose_dense(trunk, 0, Store(store))
    renewals.clear()
    counted = Counter(trunk).ticket(len(steps))
    assert Work(counted.evaluations, counted.decompositions) == examine(spec, Store(store))
    assert counted.renewals == len(renewals) == 0


def test_the_published_numbers_of_a_pair_of_vgg_16() -> None:
    # METHOD 7: 33 estimates of BatchNorm and 66 evaluations for 11 points, ends included, and 154 decompositions.
    spec = get_experiment("image_classification").preset("paper").spec
    counter, other = Counter(spec), branch(spec, 1)
    pair, end = counter.pair(Pair(a=other, b=other, kind="within")), counter.end()
    matched, stored, ends = 9, 11, 2 * counter.factors_of_end().decompositions
    assert pair.renewals + 2 * end.renewals - matched == 33
    assert pair.evaluations + 2 * end.evaluations - 2 * matched - 2 * stored == 66
    assert pair.decompositions + ends == 154 and end.decompositions == 0


def test_each_kind_of_work_has_its_seconds() -> None:
    rates = Rates(step=0.001, checkpoint=9.0, evaluation=1.0, renewal=0.1, decomposition=0.01)
    work = Cost(evaluations=2, decompositions=3, renewals=4, updates=5)
    assert work.seconds(rates) == pytest.approx(2.435)
