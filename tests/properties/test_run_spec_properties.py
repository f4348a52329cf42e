"""JSON and identity of any run spec."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import read_spec
from specdyn.models.nets.mlp import Mlp
from specdyn.models.nets.transformer import Transformer
from specdyn.models.spec.run_spec import DECAYED, NORM_CONTROLS, OPTIMIZERS, SCHEDULES, RunSpec, to_json

some = settings(max_examples=100, deadline=None)
counts = st.integers(1, 10**9)
amounts = st.floats(0, 1e9, exclude_min=True)
transformers = st.builds(
    lambda heads, each, feedforward, depth, layernorm: Transformer(
        width=heads * each, heads=heads, feedforward=feedforward, depth=depth, layernorm=layernorm
    ),
    *[st.integers(1, 64)] * 4,
    st.booleans(),
)
plain = st.builds(
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
    optimizer=st.sampled_from(OPTIMIZERS),
    learning_rate=amounts,
    weight_decay=amounts | st.just(0.0),
    beta1=st.floats(0, 1, exclude_max=True),
    beta2=st.floats(0, 1, exclude_max=True),
    epsilon=amounts,
    momentum=st.floats(0, 1, exclude_max=True),
    schedule=st.sampled_from([name for name in SCHEDULES if name not in ("milestones", "warmup-cosine")]),
    warmup=st.integers(0, 10**6),
    checkpoint_every=counts,
    early_checkpoints=st.integers(0, 9),
    eval_batch_size=counts,
    eval_examples=st.none() | counts,
    seed=st.integers(0, 2**63 - 1),
    accumulate=counts,
    clip_norm=st.none() | amounts,
    precision=st.sampled_from(["float32", "bfloat16"]),
    milestones=st.sets(counts).map(sorted),
    period=st.integers(0, 10**6),
    sam_radius=amounts,
    weight_decay_on=st.sampled_from(DECAYED),
    decay_from=st.integers(0, 9),
    decay_until=st.none() | st.integers(10, 99),
    norm_control=st.sampled_from(NORM_CONTROLS),
    tf32=st.booleans(),
    compile=st.booleans(),
    deterministic=st.booleans(),
)
specs = plain | st.builds(
    lambda spec, schedule: dataclasses.replace(spec, milestones=(82,), period=10**6 + 1, schedule=schedule),
    plain,
    st.sampled_from(["milestones", "warmup-cosine"]),
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
def test_whole_numbers_may_come_as_integers_or_floats(spec: RunSpec) -> None:
    decay = float(int(spec.weight_decay))
    as_float = dataclasses.replace(spec, weight_decay=decay, warmup=float(spec.warmup))
    as_integer = dataclasses.replace(spec, weight_decay=int(decay))
    assert as_float == as_integer
    assert to_json(as_float) == to_json(as_integer)
