"""What a loop of one's own recorded, in a folder and on S3: whole, in order, and damage is noticed."""

import pytest
import torch
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.care.verify import verify
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.places import Recording, Store
from specdyn.storage.recordings import (
    AlreadyRecorded,
    RecordingRecord,
    Written,
    as_lines,
    packed,
    read_lines,
    read_recording,
    read_step,
    recorded_steps,
    write_recording,
)

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(4, dtype=torch.bfloat16), "n": torch.tensor(7)}
RECORD = RecordingRecord(
    name="run",
    settings={"seed": 0, "net": {"width": 8}, "name": "x", "tied": True, "nothing": None},
    keep="checkpoints",
    every=100,
    at=(3,),
    per_decade=0,
)


@pytest.fixture(params=["folder", "S3", "S3 that ignores conditions"])
def place(request: pytest.FixtureRequest) -> Recording:
    fixtures = {"folder": "local_store", "S3": "s3_store", "S3 that ignores conditions": "careless_s3_store"}
    store: Store = request.getfixturevalue(fixtures[request.param])
    return store.recording("run")


def written(place: Recording) -> Written:
    return Written(place, lambda: None)


def put(place: Recording, step: int, factor: float = 1.0) -> None:
    tensors: dict[str, Tensor] = {**TENSORS, "b": factor * TENSORS["b"]}
    written(place).put(place.checkpoint(step), step, tensors)


def test_tensors_come_back_in_their_order_and_types(place: Recording) -> None:
    put(place, 5)
    found = read_step(place.checkpoint(5))
    assert list(found) == list(TENSORS)
    assert all(found[name].dtype == w.dtype and torch.equal(found[name], w) for name, w in TENSORS.items())
    assert recorded_steps(place.folder) == [5]
    assert [one.step for one in find_checkpoints(place.folder).checkpoints] == [5]


def test_a_step_is_put_once(place: Recording) -> None:
    put(place, 5)
    put(place, 5)
    with pytest.raises(AlreadyRecorded, match="other values than the new ones of step 5"):
        put(place, 5, factor=2.0)
    put(place, 9)
    with pytest.raises(AlreadyRecorded, match="step 7 is missing, but step 9 exists"):
        put(place, 7)
    assert torch.equal(read_step(place.checkpoint(5))["b"], TENSORS["b"])


def test_lines_of_a_step_grow_and_never_change(place: Recording) -> None:
    one = written(place)
    one.put_lines(5, {3: {"a": 1.0}, 5: {"a": 2.0}})
    one.put_lines(5, {5: {"b": 0.5}})
    assert read_lines(place.lines(5)) == {3: {"a": 1.0}, 5: {"a": 2.0, "b": 0.5}}
    with pytest.raises(AlreadyRecorded, match=r"a=1.0 at step 3, but the new value is 4.0"):
        one.put_lines(5, {3: {"a": 4.0}})
    assert objects.read(place.lines(5)) == b'{"step": 3, "a": 1.0}\n{"step": 5, "a": 2.0, "b": 0.5}\n'


def test_a_truncation_keeps_what_came_before_whatever_object_it_lies_in(place: Recording) -> None:
    one = written(place)
    for step in (0, 10, 20):
        put(place, step)
    one.put_lines(10, {5: {"a": 5.0}, 10: {"a": 10.0}})
    one.put_lines(20, {10: {"b": 0.0}, 12: {"a": 12.0}, 20: {"a": 20.0}})
    written(place).truncate(11)
    assert recorded_steps(place.folder) == [0, 10]
    assert recorded_steps(place.metrics, ".jsonl") == [10]
    assert read_lines(place.lines(10)) == {5: {"a": 5.0}, 10: {"a": 10.0, "b": 0.0}}
    put(place, 20, factor=3.0)


def test_only_scalars_are_labels(place: Recording) -> None:
    write_recording(place, RECORD)
    assert read_recording(place) == RECORD
    assert objects.read(place.labels) == b'{\n "seed": 0,\n "name": "x",\n "tied": true\n}'


def flip(url: str, at: int) -> None:
    data = bytearray(objects.read(url))
    data[at] ^= 1
    objects.write(url, bytes(data))


@pytest.mark.parametrize("at", [3, 20, 60, -1, -9, -40])
def test_a_flipped_bit_is_noticed_wherever_it_lies(local_store: Store, at: int) -> None:
    place = local_store.recording("run")
    put(place, 5)
    flip(place.checkpoint(5), at)
    with pytest.raises(DamagedCheckpoint, match="step=00000005"):
        read_step(place.checkpoint(5))


def test_analysing_a_recording_notices_a_flipped_bit(place: Recording) -> None:
    put(place, 5)
    (found,) = find_checkpoints(place.folder).checkpoints
    assert torch.equal(found.weights()["b"], TENSORS["b"])
    flip(place.checkpoint(5), -12)
    with pytest.raises(DamagedCheckpoint, match=r"tensor '\w' is not as it was recorded"):
        [found.weights()[name] for name in TENSORS]


def test_an_object_of_another_step_is_noticed(place: Recording) -> None:
    objects.write(place.checkpoint(6), packed(5, TENSORS))
    with pytest.raises(DamagedCheckpoint, match="holds step 5"):
        read_step(place.checkpoint(6))


def test_verify_reads_recordings_and_names_what_is_damaged(place: Recording) -> None:
    write_recording(place, RECORD)
    for step in (0, 10):
        put(place, step)
        written(place).put_lines(step, {step: {"a": 1.0}})
    objects.write(place.store.schema, b'{"schema_version": 2}')
    whole = verify(place.store)
    assert whole.damage == () and whole.objects == 7
    flip(place.checkpoint(10), -1)
    objects.write(place.lines(0), b"no line")
    flip(place.record, 40)
    assert {one.url for one in verify(place.store).damage} == {place.checkpoint(10), place.lines(0), place.record}
    assert {one.kind for one in verify(place.store).damage} == {"recording"}


def test_a_damaged_record_is_named(local_store: Store) -> None:
    place = local_store.recording("run")
    objects.write(place.record, b"{}")
    with pytest.raises(StoreError, match=r"recording.json is not as it was written"):
        read_recording(place)


def test_lines_are_json(local_store: Store) -> None:
    assert as_lines({2: {"a": 1.0}, 1: {"b": 2.0}}) == b'{"step": 1, "b": 2.0}\n{"step": 2, "a": 1.0}\n'
