"""Products and alignment of two layers, against float64 numpy on the weights themselves."""

import math

import numpy as np
import pytest
import torch

from reference.spectra import orthonormal
from reference.views import matrix, of_pair
from specdyn.models.nets.matrices import LayerPair, Matrix

CHAIN = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"))


def entropy_rank(s: np.ndarray) -> float:
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()) / len(s))


def definitions(reader: np.ndarray, writer: np.ndarray) -> dict[str, float]:
    """The three numbers of A_r = W_r' W_r and A_w = W_w W_w', both (d, d)."""
    norms = np.linalg.norm(reader), np.linalg.norm(writer)
    return {
        "weighted_alignment": math.sqrt(np.trace(reader @ writer) / (np.trace(reader) * np.trace(writer))),
        "gram_alignment": float(np.trace(reader @ writer) / (norms[0] * norms[1])),
        "imbalance": float(np.linalg.norm(reader - writer) / (norms[0] + norms[1])),
    }


@pytest.mark.parametrize(("rows", "width", "columns"), [(7, 5, 9), (5, 12, 3), (4, 6, 6), (1, 5, 4)])
def test_a_product_has_the_values_of_the_multiplied_matrices(rows: int, width: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    reader, writer = rng.normal(size=(rows, width)), rng.normal(size=(width, columns))
    found = of_pair("products", CHAIN, {"a": matrix(writer), "b": matrix(reader)})
    s = np.linalg.svd(reader @ writer, compute_uv=False)[: min(rows, width, columns)]
    np.testing.assert_allclose(found["product_singular_value"], s, rtol=1e-4, atol=1e-6 * s[0])
    assert found["product_effective_rank"] == pytest.approx(entropy_rank(s), rel=1e-4)
    assert set(found) == {"product_singular_value", "product_effective_rank"}


@pytest.mark.parametrize("shapes", [((7, 5), (5, 9)), ((3, 12), (12, 4)), ((6, 12), (12, 6)), ((1, 30), (30, 1))])
def test_weighted_alignments_match_the_multiplied_matrices(
    shapes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    rng = np.random.default_rng(1)
    reader, writer = (rng.normal(size=shape) for shape in shapes)
    found = of_pair("alignment_variants", CHAIN, {"a": matrix(writer), "b": matrix(reader)})
    norms = np.linalg.norm(reader) * np.linalg.norm(writer)
    assert found["weighted_alignment"] == pytest.approx(np.linalg.norm(reader @ writer) / norms, rel=1e-5)
    expected = definitions(reader.T @ reader, writer @ writer.T)
    assert {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()} == found


def test_an_embedding_writes_by_its_right_vectors() -> None:
    rng = np.random.default_rng(7)
    embedding, reader = rng.normal(size=(11, 6)), rng.normal(size=(4, 6))
    pair = LayerPair(writer=CHAIN.writer, reader=CHAIN.reader, writer_vectors="right")
    weights = {"a": matrix(embedding), "b": matrix(reader)}
    s = np.linalg.svd(reader @ embedding.T, compute_uv=False)
    np.testing.assert_allclose(of_pair("products", pair, weights)["product_singular_value"], s[:4], rtol=1e-5)
    expected = definitions(reader.T @ reader, embedding.T @ embedding)
    found = of_pair("alignment_variants", pair, weights)
    assert {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()} == found


def test_queries_and_keys_are_compared_head_by_head() -> None:
    rng = np.random.default_rng(2)
    w = rng.normal(size=(12, 9))  # rows 0..3 queries, 4..7 keys, 8..11 values, of two heads with two rows each
    query = Matrix(parameter="w", part="query", rows=(0, 4), heads=2)
    key = Matrix(parameter="w", part="key", rows=(4, 8), heads=2)
    pair = LayerPair(writer=key, reader=query, reader_vectors="left")
    found = of_pair("products", pair, {"w": matrix(w)})
    q, k = w[:4].reshape(2, 2, 9), w[4:8].reshape(2, 2, 9)
    values = [np.linalg.svd(q[h].T @ k[h], compute_uv=False)[:2] for h in range(2)]
    np.testing.assert_allclose(found["head_product_singular_value"], values, rtol=1e-5)
    np.testing.assert_allclose(found["head_product_effective_rank"], [entropy_rank(s) for s in values], rtol=1e-5)
    assert set(found) == {"head_product_singular_value", "head_product_effective_rank"}
    variants = of_pair("alignment_variants", pair, {"w": matrix(w)})
    heads = [definitions(q[h] @ q[h].T, k[h] @ k[h].T) for h in range(2)]
    for name, value in variants.items():
        assert value == pytest.approx(np.mean([head[name] for head in heads]), rel=1e-5)


def test_values_and_outputs_are_multiplied_head_by_head() -> None:
    rng = np.random.default_rng(3)
    w_v, w_o = rng.normal(size=(6, 8)), rng.normal(size=(8, 6))
    pair = LayerPair(
        writer=Matrix(parameter="v", part="heads", rows=(0, 6), heads=3),
        reader=Matrix(parameter="o", part="heads", heads=3, split="columns"),
    )
    found = of_pair("products", pair, {"v": matrix(w_v), "o": matrix(w_o)})["head_product_singular_value"]
    for h in range(3):
        product = w_o[:, 2 * h : 2 * h + 2] @ w_v[2 * h : 2 * h + 2]
        np.testing.assert_allclose(found[h], np.linalg.svd(product, compute_uv=False)[:2], rtol=1e-5)


def test_a_reading_convolution_is_summed_over_its_positions() -> None:
    rng = np.random.default_rng(4)
    kernel, writer = rng.normal(size=(6, 4, 3, 3)), rng.normal(size=(4, 10))  # kernel (out, in, height, width)
    pair = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"), positions=9, shown=4)
    weights = {"a": matrix(writer), "b": matrix(kernel)}
    found = of_pair("alignment_variants", pair, weights)
    slices = [kernel[:, :, i, j] for i in range(3) for j in range(3)]
    expected = definitions(np.sum([w.T @ w for w in slices], axis=0), writer @ writer.T)
    assert {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()} == found
    apart = math.sqrt(sum(np.linalg.norm(w @ writer) ** 2 for w in slices))
    norms = np.linalg.norm(kernel) * np.linalg.norm(writer)
    assert found["weighted_alignment"] == pytest.approx(apart / norms, rel=1e-5)
    assert of_pair("products", pair, weights) == {}


def test_a_writing_lstm_is_summed_over_its_gates() -> None:
    rng = np.random.default_rng(5)
    writer, reader = rng.normal(size=(12, 7)), rng.normal(size=(5, 3))  # four gates of three rows
    pair = LayerPair(writer=Matrix(parameter="a"), reader=Matrix(parameter="b"), gates=4, shown=2)
    weights = {"a": matrix(writer), "b": matrix(reader)}
    found = of_pair("alignment_variants", pair, weights)
    gates = writer.reshape(4, 3, 7)
    expected = definitions(reader.T @ reader, np.sum([g @ g.T for g in gates], axis=0))
    assert {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()} == found
    assert of_pair("products", pair, weights) == {}


@pytest.mark.parametrize(("rows", "width", "columns"), [(6, 5, 9), (4, 20, 4)])
def test_balanced_layers_are_aligned_and_have_no_imbalance(rows: int, width: int, columns: int) -> None:
    left, right, shared = orthonormal(rows, 4, 0), orthonormal(columns, 4, 1), orthonormal(width, 4, 2)
    s = np.diag([4.0, 2.0, 1.0, 0.5])
    weights = {"a": matrix(shared @ s @ right.T), "b": matrix(left @ s @ shared.T)}
    found = of_pair("alignment_variants", CHAIN, weights)
    assert found["gram_alignment"] == pytest.approx(1, abs=1e-5)
    assert found["imbalance"] == pytest.approx(0, abs=1e-5)
    tripled = of_pair("alignment_variants", CHAIN, {**weights, "a": 3 * weights["a"]})
    assert tripled["gram_alignment"] == pytest.approx(1, abs=1e-5)
    assert tripled["imbalance"] == pytest.approx(8 / 10, rel=1e-5)  # (9 - 1) / (9 + 1)


def test_layers_of_rank_one_reach_both_ends() -> None:
    along, across, out = np.array([[3.0, 4.0]]), np.array([[4.0, -3.0]]), np.array([[1.0], [2.0], [2.0]])
    aligned = of_pair("alignment_variants", CHAIN, {"a": matrix(along.T), "b": matrix(out @ along)})
    crossed = of_pair("alignment_variants", CHAIN, {"a": matrix(across.T), "b": matrix(out @ along)})
    for name in ("weighted_alignment", "gram_alignment"):
        assert aligned[name] == pytest.approx(1, abs=1e-5)
        assert crossed[name] == pytest.approx(0, abs=1e-3)


def test_a_zero_layer_has_no_alignment_but_is_out_of_balance() -> None:
    one = of_pair("alignment_variants", CHAIN, {"a": torch.zeros(4, 3), "b": torch.eye(4)})
    both = of_pair("alignment_variants", CHAIN, {"a": torch.zeros(4, 3), "b": torch.zeros(2, 4)})
    assert np.isnan([one["weighted_alignment"], one["gram_alignment"], *both.values()]).all()
    assert one["imbalance"] == 1
    product = of_pair("products", CHAIN, {"a": torch.zeros(4, 3), "b": torch.eye(4)})
    assert product["product_singular_value"].tolist() == [0, 0, 0]
    assert math.isnan(product["product_effective_rank"])


def test_random_layers_have_the_weighted_alignment_of_chance() -> None:
    rng = np.random.default_rng(6)
    found = [
        of_pair("alignment_variants", CHAIN, {"a": matrix(rng.normal(size=(64, 50))), "b": matrix(w)})
        for w in rng.normal(size=(20, 40, 64))
    ]
    squares = [of["weighted_alignment"] ** 2 for of in found]
    assert np.mean(squares) == pytest.approx(1 / 64, rel=0.02)
