"""JSON and identity of any run spec."""

from hypothesis import given, settings
from hypothesis import strategies as st

from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import read_spec
from specdyn.models.nets.mlp import Mlp
from specdyn.models.nets.transformer import Transformer
from specdyn.models.spec.parts import (
    DECAYED,
    NORM_CONTROLS,
    OPTIMIZERS,
    SCHEDULES,
    Decay,
    Norms,
    Numerics,
    Optimizer,
    Record,
    Schedule,
)
from specdyn.models.spec.run_spec import RunSpec, from_settings, own_settings, to_json
from specdyn.models.spec.settings import settings_of, with_settings
from specdyn.models.spec.start import MASKS, PERTURBATIONS, Perturbation, StartFrom, Ticket

some = settings(max_examples=100, deadline=None)
counts = st.integers(1, 10**9)
amounts = st.floats(0, 1e9, exclude_min=True)
shares = st.floats(0, 1, exclude_max=True)
transformers = st.builds(
    lambda heads, each, feedforward, depth, layernorm: Transformer(
        width=heads * each, heads=heads, feedforward=feedforward, depth=depth, layernorm=layernorm
    ),
    *[st.integers(1, 64)] * 4,
    st.booleans(),
)
optimizers = st.builds(
    Optimizer,
    name=st.sampled_from(OPTIMIZERS),
    learning_rate=amounts,
    beta1=shares,
    beta2=shares,
    epsilon=amounts,
    momentum=shares,
    sam_radius=amounts,
    clip_norm=st.none() | amounts,
) | st.builds(Optimizer, name=st.just("sgd"), momentum=shares.filter(bool), nesterov=st.just(True))
schedules = st.builds(
    Schedule,
    name=st.sampled_from([name for name in SCHEDULES if name not in ("milestones", "warmup-cosine")]),
    warmup=st.integers(0, 10**6),
    milestones=st.sets(counts).map(sorted),
    period=st.integers(0, 10**6),
) | st.builds(
    Schedule,
    name=st.sampled_from(["milestones", "warmup-cosine"]),
    warmup=st.integers(0, 10**6),
    milestones=st.just((82,)),
    period=st.just(10**6 + 1),
)
decays = st.builds(
    Decay,
    weight_decay=amounts | st.just(0.0),
    on=st.sampled_from(DECAYED),
    after=st.integers(0, 9),
    until=st.none() | st.integers(10, 99),
)
norms = st.builds(Norms, control=st.sampled_from(NORM_CONTROLS)) | st.builds(Norms, run=st.text("0123456789abcdef"))
numerics = st.builds(
    Numerics,
    precision=st.sampled_from(["float32", "bfloat16"]),
    tf32=st.booleans(),
    compile=st.booleans(),
    deterministic=st.booleans(),
)
records = st.builds(
    Record,
    checkpoint_every=counts,
    early_checkpoints=st.integers(0, 9),
    eval_batch_size=counts,
    eval_examples=st.none() | counts,
)
seeds = st.integers(0, 2**63 - 1)
tickets = st.builds(Ticket, density=st.floats(0, 1, exclude_min=True), mask=st.sampled_from(MASKS), mask_seed=seeds)
noises = st.builds(Perturbation, size=amounts, direction=st.sampled_from(PERTURBATIONS), noise_seed=seeds)
begun = {"run_id": st.text("0123456789abcdef"), "step": st.integers(0, 98), "order": seeds}
starts = (
    st.builds(StartFrom, **begun)
    | st.builds(StartFrom, **begun, ticket=tickets)
    | st.builds(StartFrom, **begun, perturbation=noises)
)
specs = st.builds(
    RunSpec,
    experiment=st.just("modular_addition"),
    net=transformers | st.builds(Mlp, width=counts, hidden_layers=counts),
    data=st.builds(
        ModularAddition,
        prime=st.sampled_from([5, 13, 97, 113]),
        train_fraction=st.floats(0.1, 1, exclude_max=True),
        mirrored_together=st.booleans(),
    ),
    steps=st.integers(99, 10**6),
    batch_size=st.none() | counts,
    accumulate=counts,
    seed=seeds,
    optimizer=optimizers,
    schedule=schedules,
    decay=decays,
    norms=norms,
    numerics=numerics,
    record=records,
    start=st.none() | starts,
)


@some
@given(specs)
def test_json_comes_back_as_an_equal_spec_with_the_same_id(spec: RunSpec) -> None:
    again = read_spec(to_json(spec), "modular_addition")
    assert again == spec
    assert again.run_id == spec.run_id


@some
@given(specs, specs)
def test_equal_specs_and_only_they_share_an_id(one: RunSpec, other: RunSpec) -> None:
    assert (one.run_id == other.run_id) == (one == other)


@some
@given(specs)
def test_the_settings_by_name_make_an_equal_spec(spec: RunSpec) -> None:
    assert from_settings(**own_settings(spec)) == spec
    given = {name: value for name, value in own_settings(spec).items() if name in settings_of(spec)}
    other = RunSpec(experiment=spec.experiment, net=spec.net, data=spec.data, steps=spec.steps, start=spec.start)
    assert with_settings(other, **given) == spec


@some
@given(specs)
def test_whole_numbers_may_come_as_integers_or_floats(spec: RunSpec) -> None:
    decay = float(int(spec.decay.weight_decay))
    as_float = with_settings(spec, weight_decay=decay, warmup=float(spec.schedule.warmup))
    as_integer = with_settings(spec, weight_decay=int(decay))
    assert as_float == as_integer
    assert to_json(as_float) == to_json(as_integer)
