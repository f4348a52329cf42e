"""From prepared arrays to examples: images, speech and tokens (METHOD 1.2 to 1.5)."""

from typing import Any

import numpy as np
import pytest
import torch

from reference.samples import sample_arrays
from specdyn.models.datasets.decoders.images import image_examples
from specdyn.models.datasets.decoders.speech import speech_examples
from specdyn.models.datasets.decoders.tokens import token_examples
from specdyn.models.spec.data import IMAGE_SETS, Images, Recordings, Text

N = 40


def images(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Digits of random pixels, told apart by their first pixel."""
    image = np.random.default_rng(0).integers(0, 256, (N, 1, 28, 28), dtype=np.uint8)
    image[:, 0, 0, 0] = np.arange(N)
    return {"image": image, "label": np.arange(N) % 10, **more}


def numbers(inputs: torch.Tensor) -> list[int]:
    """Which of `images` these are."""
    return torch.round((inputs[:, 0, 0, 0] * 0.3081 + 0.1307) * 255).int().tolist()


def test_images_are_split_nine_to_one_in_the_published_order() -> None:
    data = image_examples(Images(dataset="mnist"), images())
    order = torch.randperm(N, generator=torch.Generator().manual_seed(42)).tolist()
    assert numbers(data["train"].inputs) == order[:36]
    assert numbers(data["val"].inputs) == order[36:]
    assert data["train"].targets.tolist() == [i % 10 for i in order[:36]]


def test_the_split_of_50_000_images_is_the_published_one() -> None:
    arrays = {"image": np.zeros((50_000, 1, 28, 28), np.uint8), "label": np.zeros(50_000, np.int64)}
    arrays["image"].reshape(50_000, -1)[:, 0] = np.arange(50_000) // 256
    arrays["image"].reshape(50_000, -1)[:, 1] = np.arange(50_000) % 256
    data = image_examples(Images(dataset="mnist"), arrays)
    pixels = torch.round((data["train"].inputs[:, 0, 0, :2].double() * 0.3081 + 0.1307) * 255)
    index = (pixels[:, 0] * 256 + pixels[:, 1]).long().tolist()
    assert (len(index), len(data["val"].targets)) == (45_000, 5_000)
    assert index[:3] == [37_542, 44_491, 216]


def test_a_set_with_a_split_of_its_own_keeps_it() -> None:
    validation = np.arange(N) % 3 == 0
    data = image_examples(Images(dataset="mnist"), images(validation=validation))
    assert numbers(data["val"].inputs) == list(range(0, N, 3))
    assert numbers(data["train"].inputs) == [i for i in range(N) if i % 3]


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_pixels_are_normalised_by_channel(name: str) -> None:
    about = IMAGE_SETS[name]
    image = np.random.default_rng(1).integers(0, 256, (10, about.channels, about.size, about.size), dtype=np.uint8)
    arrays = {"image": image, "label": np.zeros(10, np.int64), "validation": np.arange(10) == 9}
    inputs = image_examples(Images(dataset=name), arrays)["val"].inputs
    assert inputs.dtype == torch.float32
    for channel in range(about.channels):
        expected = (image[9, channel] / 255 - about.mean[channel]) / about.std[channel]
        np.testing.assert_allclose(inputs[0, channel], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["mnist", "photos"])
def test_the_constants_are_close_to_the_samples(name: str) -> None:
    inputs = image_examples(Images(dataset=name, variant="sample"), sample_arrays(name))["train"].inputs
    assert abs(float(inputs.mean())) < 0.5
    assert float(inputs.std()) == pytest.approx(1, abs=0.3)


def test_random_labels_are_the_published_permutation_made_before_the_split() -> None:
    true = image_examples(Images(dataset="mnist"), images())
    random = image_examples(Images(dataset="mnist", labels="random"), images())
    assert torch.equal(true["train"].inputs, random["train"].inputs)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(12345)).tolist()
    for split in ("train", "val"):
        assert random[split].targets.tolist() == [order[i] % 10 for i in numbers(random[split].inputs)]
        assert not torch.equal(random[split].targets, true[split].targets)


def test_label_noise_redraws_the_labels_of_a_share() -> None:
    true = image_examples(Images(dataset="mnist"), images())
    noisy = image_examples(Images(dataset="mnist", noise=0.5), images())
    draw = torch.Generator().manual_seed(12345)
    chosen = torch.randperm(N, generator=draw)[:20]
    label = torch.arange(N) % 10
    label[chosen] = torch.randint(0, 10, (20,), generator=draw)
    for split in ("train", "val"):
        assert noisy[split].targets.tolist() == [int(label[i]) for i in numbers(noisy[split].inputs)]
    assert not torch.equal(noisy["train"].targets, true["train"].targets)


def test_a_fraction_takes_the_first_training_images_and_all_of_validation() -> None:
    whole = image_examples(Images(dataset="mnist"), images())
    part = image_examples(Images(dataset="mnist", train_fraction=0.25), images())
    assert numbers(part["train"].inputs) == numbers(whole["train"].inputs)[:9]
    assert torch.equal(part["val"].inputs, whole["val"].inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "cifar"}, r"unknown set of images 'cifar'.*did you mean 'cifar10'\?"),
        ({"labels": "permuted"}, r"unknown kind of labels 'permuted': known are random, true"),
        ({"noise": 1.5}, r"noise=1.5 is not allowed: expected a number from 0 to 1"),
        ({"train_fraction": 0.0}, r"train_fraction=0.0 is not allowed: expected a number above 0, at most 1"),
    ],
)
def test_a_setting_of_images_that_means_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Images(**settings)


def test_images_of_another_set_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape of image in cifar10=\(40, 1, 28, 28\).*\(40, 3, 32, 32\)"):
        image_examples(Images(), images())
    with pytest.raises(ValueError, match=r"mnist: 1 of 40 labels lie outside 0..9"):
        image_examples(Images(dataset="mnist"), images(label=np.array([10] + [0] * (N - 1))))
    with pytest.raises(ValueError, match=r"train_fraction=0.001 is not allowed: expected 0.0278 or more"):
        image_examples(Images(dataset="mnist", train_fraction=0.001), images())


def utterances(*sizes: tuple[int, int]) -> dict[str, np.ndarray]:
    """Utterances of (frames, characters): frame f of an utterance holds f + 1, its text counts up from 2."""
    frames = [np.outer(np.arange(1, t + 1), np.ones(40)) for t, _ in sizes]
    texts = [np.arange(2, 2 + n) for _, n in sizes]
    return {
        "frames": np.concatenate(frames).astype(np.float16),
        "frame_offset": np.cumsum([0, *(t for t, _ in sizes)]),
        "text": np.concatenate(texts).astype(np.int32),
        "text_offset": np.cumsum([0, *(n for _, n in sizes)]),
    }


def speech() -> dict[str, np.ndarray]:
    splits = {"train": utterances((3, 2), (5, 1)), "val": utterances((4, 3))}
    return {f"{split}/{name}": array for split, arrays in splits.items() for name, array in arrays.items()}


def test_utterances_are_padded_and_keep_their_lengths() -> None:
    train = speech_examples(Recordings(), speech())["train"]
    assert train.inputs.dtype == torch.float32
    assert train.inputs[:, :, 7].tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert train.targets.tolist() == [[2, 3], [2, -1]]
    assert train.lengths is not None
    assert train.lengths.tolist() == [3, 5]
    assert train.take(slice(0, 1)).inputs.shape == (1, 3, 40)


def test_a_symbol_without_an_output_is_refused() -> None:
    with pytest.raises(ValueError, match=r"librispeech/full, split val: a transcript has symbol 4.*outputs=4, which"):
        speech_examples(Recordings(outputs=4), speech())
    assert speech_examples(Recordings(outputs=5), speech())["val"].targets.tolist() == [[2, 3, 4]]


def test_other_features_are_refused() -> None:
    arrays = speech()
    arrays["train/frames"] = arrays["train/frames"][:, :39]
    with pytest.raises(ValueError, match=r"features of a frame in train=39 is not allowed: expected 40"):
        speech_examples(Recordings(), arrays)


def test_the_target_of_a_token_is_the_one_after_it() -> None:
    arrays = {"train/chunk": np.array([[1, 2, 3], [4, 5, 6]], np.uint16), "val/chunk": np.array([[7, 8, 9]], np.uint16)}
    data = token_examples(Text(vocabulary=10, length=2), arrays)
    assert data["train"].inputs.tolist() == [[1, 2], [4, 5]]
    assert data["train"].targets.tolist() == [[2, 3], [5, 6]]
    assert data["val"].targets.tolist() == [[8, 9]]
    assert data["train"].targets.dtype == torch.int64
    with pytest.raises(ValueError, match=r"length=3 is not allowed: expected 2, the length of the blocks"):
        token_examples(Text(vocabulary=10, length=3), arrays)
    with pytest.raises(ValueError, match=r"vocabulary=9 is not allowed: expected more than 9, the largest id of .*val"):
        token_examples(Text(vocabulary=9, length=2), arrays)


def test_the_samples_have_the_arrays_that_the_experiments_read() -> None:
    photos = image_examples(Images(dataset="photos", variant="sample"), sample_arrays("photos"))
    assert [len(part.targets) for part in photos.values()] == [2_000, 500]
    texts = token_examples(
        Text(dataset="devils_dictionary", variant="sample", vocabulary=512, length=64),
        sample_arrays("devils_dictionary"),
    )
    assert len(texts["train"].inputs) > 2_000
    voices = speech_examples(Recordings(variant="sample", outputs=25), sample_arrays("librispeech"))
    assert [len(part.targets) for part in voices.values()] == [4, 1]
