"""The references themselves, against definitions written another way: loops, complex numbers, known values."""

import math

import numpy as np
import pytest

from eardrop.ops import OPS, halved, ragged

rng = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def test_linear_is_a_dot_product_with_each_row() -> None:
    x, w, bias = normal(3, 5), normal(4, 5), normal(4)
    y = OPS["linear"].reference(x, w, bias)
    for n in range(3):
        for m in range(4):
            assert y[n, m] == pytest.approx(sum(x[n, k] * w[m, k] for k in range(5)) + bias[m], abs=1e-5)


def test_layer_norm_centres_and_scales_each_row() -> None:
    x = np.array([[1.0, 3.0]], np.float32)  # mean 2, deviation 1
    ones, bias = np.array([1.0, 10.0], np.float32), np.array([0.5, 0.0], np.float32)
    y = OPS["layer_norm"].reference(x, ones, bias, 0.0)
    np.testing.assert_allclose(y, [[-0.5, 10.0]], atol=1e-6)
    damped = OPS["layer_norm"].reference(x, ones, bias, 3.0)  # √(1 + 3) = 2
    np.testing.assert_allclose(damped, [[0.0, 5.0]], atol=1e-6)


def test_rms_norm_divides_by_the_root_of_the_mean_square() -> None:
    y = OPS["rms_norm"].reference(np.array([[3.0, 4.0]], np.float32), np.array([1.0, 2.0], np.float32), 0.0)
    np.testing.assert_allclose(y, [[3 / math.sqrt(12.5), 8 / math.sqrt(12.5)]], rtol=1e-6)
    y = OPS["rms_norm"].reference(np.zeros((1, 2), np.float32), np.ones(2, np.float32), 1e-5)
    assert not y.any()


def test_rms_norm_adds_epsilon_under_the_root() -> None:
    y = OPS["rms_norm"].reference(np.array([[1.0, -1.0]], np.float32), np.ones(2, np.float32), 3.0)  # √(1 + 3) = 2
    np.testing.assert_allclose(y, [[0.5, -0.5]], rtol=1e-6)


def test_embed_gives_each_tokens_row_in_the_order_asked() -> None:
    w = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert OPS["embed"].reference(np.int32([3, 3, 0, 1]), w).tolist() == [[6, 7], [6, 7], [0, 1], [2, 3]]


@pytest.mark.parametrize("x", [-30.0, -1.5, 0.0, 0.5, 3.0])
def test_activations_take_their_textbook_values(x: float) -> None:
    row = np.array([[x]], np.float32)
    sigmoid = 1 / (1 + math.exp(-x))
    expected = {"relu": max(x, 0), "silu": x * sigmoid, "gelu": x / 2 * (1 + math.erf(x / math.sqrt(2)))}
    for name, value in expected.items():
        assert OPS["linear"].reference(row, np.eye(1, dtype=np.float32), None, name)[0, 0] == pytest.approx(
            value, abs=1e-6
        )
    pair = np.array([[2.0, x]], np.float32)
    assert OPS["glu"].reference(pair)[0, 0] == pytest.approx(2 * sigmoid, abs=1e-6)
    assert OPS["swiglu"].reference(row, pair[:, :1])[0, 0] == pytest.approx(2 * x * sigmoid, abs=1e-6)


def test_add_scales_only_what_is_added() -> None:
    np.testing.assert_allclose(OPS["add"].reference(np.float32([[4]]), np.float32([[3]]), 0.5), [[5.5]])


@pytest.mark.parametrize("channels_in", [1, 3])
def test_conv2d_is_a_strided_correlation_with_zeros_around_each_clip(channels_in: int) -> None:
    x, offsets, weight, bias = normal(8, 5, channels_in), ragged(3, 5), normal(3, 3, 3), normal(3)
    y = OPS["conv2d"].reference(x, offsets, weight, bias)
    assert list(halved(offsets)) == [0, 2, 5]
    assert y.shape == (5, 3, 3)
    for begin, end, at in ((0, 3, 0), (3, 8, 2)):
        for t in range(-(-(end - begin) // 2)):
            for f in range(3):
                for c in range(3):
                    total = bias[c]
                    for i in range(3):
                        for j in range(3):
                            row, band = begin + 2 * t + i - 1, 2 * f + j - 1
                            if begin <= row < end and 0 <= band < 5:
                                total += weight[c, i, j] * x[row, band, c if channels_in > 1 else 0]
                    assert y[at + t, f, c] == pytest.approx(total, abs=1e-5)


def test_flatten_puts_the_channel_first() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)  # 3 frequencies, 4 channels
    assert OPS["flatten"].reference(x).tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]


def test_rel_attention_weighs_content_and_distance() -> None:
    n, heads, d, reach = 4, 2, 3, 6
    q, k, v, p = normal(n, heads, d), normal(n, heads, d), normal(n, heads, d), normal(2 * reach - 1, heads, d)
    u, b = normal(heads, d), normal(heads, d)
    y = OPS["rel_attention"].reference(q, k, v, p, u, b, ragged(n))
    for h in range(heads):
        for i in range(n):
            # row m of p stands for the distance reach − 1 − m, and a key j is i − j away
            scores = [(q[i, h] + u[h]) @ k[j, h] + (q[i, h] + b[h]) @ p[reach - 1 - (i - j), h] for j in range(n)]
            weights = softmax(np.array(scores) / math.sqrt(d))
            np.testing.assert_allclose(y[i, h], weights @ v[:, h], atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "rel_attention"])
def test_scores_beyond_what_exp_holds_still_weigh(name: str) -> None:
    q, v = np.full((2, 1, 2), 100, np.float32), normal(2, 1, 2)
    k = q * np.float32([[[1]], [[-1]]])  # scores of ±1e4 √2
    if name == "attention":
        keys, values, zero = np.zeros((1, 2, 1, 2), np.float32), np.zeros((1, 2, 1, 2), np.float32), np.int32([0])
        y = OPS[name].reference(q, k, v, keys, values, ragged(2), zero, zero)
    else:
        none = np.zeros((1, 2), np.float32)
        y = OPS[name].reference(q, k, v, np.zeros((3, 1, 2), np.float32), none, none, ragged(2))
    assert np.array_equal(y, [v[0], v[0]])  # the first key alone is seen


def test_rope_turns_pairs_of_halves_as_complex_numbers() -> None:
    x, positions, base = normal(3, 2, 8), np.array([0, 1, 29], np.int32), 100.0
    y = OPS["rope"].reference(x, positions, base)
    whole = x[..., :4] + 1j * x[..., 4:]
    turned = whole * np.exp(1j * positions[:, None, None] * base ** (-2 * np.arange(4) / 8))
    np.testing.assert_allclose(y, np.concatenate([turned.real, turned.imag], axis=-1), atol=1e-5)
    assert np.array_equal(y[0], x[0])


def test_rope_is_exact_at_the_far_end_of_a_context() -> None:
    x, position = normal(1, 1, 8), 32_767
    angles = [position * 1e6 ** (-2 * i / 8) for i in range(4)]
    whole = [complex(x[0, 0, i], x[0, 0, i + 4]) * complex(math.cos(a), math.sin(a)) for i, a in enumerate(angles)]
    y = OPS["rope"].reference(x, np.int32([position]), 1e6)
    np.testing.assert_allclose(y[0, 0], [z.real for z in whole] + [z.imag for z in whole], atol=1e-6)


def test_attention_is_causal_grouped_and_fills_its_caches() -> None:
    q, k, v = normal(3, 4, 2), normal(3, 2, 2), normal(3, 2, 2)
    keys, values = normal(2, 9, 2, 2), normal(2, 9, 2, 2)
    held = keys[1, :2].copy(), values[1, :2].copy()
    untouched = keys[0].copy(), keys[1, 5:].copy()
    slots, starts = np.array([1], np.int32), np.array([2], np.int32)
    y = OPS["attention"].reference(q, k, v, keys, values, ragged(3), slots, starts)
    assert np.array_equal(keys[1, 2:5], k)
    assert np.array_equal(values[1, 2:5], v)
    assert np.array_equal(keys[0], untouched[0])
    assert np.array_equal(keys[1, 5:], untouched[1])
    for h in range(4):
        seen, worth = np.concatenate([held[0], k])[:, h // 2], np.concatenate([held[1], v])[:, h // 2]
        for i in range(3):
            weights = softmax(seen[: 3 + i] @ q[i, h] / math.sqrt(2))
            np.testing.assert_allclose(y[i, h], weights @ worth[: 3 + i], atol=1e-5)


def test_attention_weights_are_attentions_own() -> None:
    q, k, v = normal(3, 4, 2), normal(3, 2, 2), np.zeros((3, 2, 2), np.float32)
    keys, values = np.zeros((1, 5, 2, 2), np.float32), np.zeros((1, 5, 2, 2), np.float32)
    slots, starts, offsets = np.array([0], np.int32), np.array([0], np.int32), ragged(3)
    v[:, :, 0], v[:, :, 1] = np.float32([1, 0, 0])[:, None], np.float32([0, 1, 0])[:, None]  # values name their row
    seen = OPS["attention"].reference(q, k, v, keys, values, offsets, slots, starts)
    weights = OPS["attention_weights"].reference(q, keys, offsets, slots, starts, np.int32([3, 0]), np.int32([[0, 2]]))
    assert weights.shape == (3, 2, 2)
    np.testing.assert_allclose(weights[:, 0], seen[:, 3], atol=1e-6)
    np.testing.assert_allclose(weights[:, 1], seen[:, 0], atol=1e-6)


@pytest.mark.parametrize("taps", [2, 3, 4, 9])
def test_causal_short_conv_is_a_convolution_of_state_and_input(taps: int) -> None:
    x, kernel, state = normal(6, 2), normal(taps, 2), normal(1, taps - 1, 2)
    seen = np.concatenate([state[0], x])
    y, u = OPS["short_conv"].reference(x, kernel, ragged(6), state=state, slots=np.int32([0]))
    for c in range(2):
        np.testing.assert_allclose(y[:, c], np.convolve(seen[:, c], kernel[::-1, c], "valid"), atol=1e-5)
    assert np.array_equal(u, x)
    assert np.array_equal(state[0], seen[len(seen) - taps + 1 :])


def test_gated_short_conv_multiplies_before_and_behind() -> None:
    b, c, x = normal(5, 2), normal(5, 2), normal(5, 2)
    kernel, state = normal(3, 2), np.zeros((1, 2, 2), np.float32)
    plain, _ = OPS["short_conv"].reference(b * x, kernel, ragged(5), state=state.copy(), slots=np.int32([0]))
    y, u = OPS["short_conv"].reference(np.hstack([b, c, x]), kernel, ragged(5), state=state, slots=np.int32([0]))
    np.testing.assert_allclose(y, c * plain, atol=1e-6)
    np.testing.assert_allclose(u, b * x)


@pytest.mark.parametrize(("taps", "back", "ahead"), [(2, 0, 1), (4, 1, 2), (9, 4, 4)])
def test_centred_short_conv_sees_as_far_ahead_as_back(taps: int, back: int, ahead: int) -> None:
    x, kernel, bias = normal(7, 2), normal(taps, 2), normal(2)
    y, _ = OPS["short_conv"].reference(x, kernel, ragged(7), bias=bias, activation="silu")
    for c in range(2):
        z = np.convolve(np.pad(x[:, c], (back, ahead)), kernel[::-1, c], "valid") + bias[c]
        np.testing.assert_allclose(y[:, c], z / (1 + np.exp(-z)), atol=1e-5)


@pytest.mark.parametrize("name", ["conv2d", "rel_attention", "short_conv"])
def test_a_clip_among_others_equals_it_alone(name: str) -> None:
    op = OPS[name]
    for case in op.cases(np.random.default_rng(3)):
        offsets = case.arguments["offsets"]
        if len(offsets) != 4 or case.arguments.get("state") is not None:
            continue
        packed = op.reference(**case.arguments)
        packed = packed[0] if isinstance(packed, tuple) else packed
        out = halved(offsets) if name == "conv2d" else offsets
        for i in range(3):
            rows = slice(offsets[i], offsets[i + 1])
            own = {k: v[rows] if k in ("x", "q", "k", "v") else v for k, v in case.arguments.items()}
            alone = op.reference(**{**own, "offsets": ragged(rows.stop - rows.start)})
            alone = alone[0] if isinstance(alone, tuple) else alone
            np.testing.assert_allclose(packed[out[i] : out[i + 1]], alone, atol=1e-5)


@pytest.mark.parametrize("taps", [3, 4, 9])
def test_short_conv_equals_llama_cpps(golden, taps: int) -> None:
    with np.load(golden / "expected" / "ssm_conv.npz") as f:
        x, w, y = (f[f"{name}{taps}"] for name in "xwy")
    state = np.ascontiguousarray(x[:, :, : taps - 1].transpose(0, 2, 1))
    rows = np.ascontiguousarray(x[:, :, taps - 1 :].transpose(0, 2, 1)).reshape(-1, x.shape[1])
    time = x.shape[2] - taps + 1
    got, _ = OPS["short_conv"].reference(rows, w.T, ragged(time, time), state=state, slots=np.int32([0, 1]))
    np.testing.assert_allclose(got.reshape(y.shape), y, atol=2e-6)


def test_pick_takes_the_lowest_of_equals_and_measures_the_margin() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, -1.0, -2.0, -9.0]], np.float32)
    ids, logprobs, margins = OPS["pick"].reference(logits)
    assert ids.tolist() == [1, 0]
    assert margins.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(np.exp(logprobs), [softmax(logits[0])[1], softmax(logits[1])[0]], rtol=1e-6)


def test_pick_never_says_what_is_not_allowed() -> None:
    logits = np.array([[1.0, 3.0, 2.0]], np.float32)
    ids, logprobs, margins = OPS["pick"].reference(logits, np.array([[True, False, True]]))
    assert ids.tolist() == [2]
    assert margins.tolist() == [1.0]
    np.testing.assert_allclose(np.exp(logprobs), [softmax(np.array([1.0, 2.0]))[1]], rtol=1e-6)
    ids, logprobs, margins = OPS["pick"].reference(logits, np.array([[True, False, False]]))
    assert (ids[0], logprobs[0], margins[0]) == (0, 0.0, np.inf)
