"""Every cell once more in float64 NumPy, written from the formulas: gate by gate, one sentence, one position at a time.

`params` are the cell's own, as nested dicts; a state is a list of arrays without B, the first of them [H]; an input is
a vector [D].
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def affine(params, x, gates):
    """W x + b, cut into the vectors of the gates; without b where there is none."""
    return np.split(params['projection']['kernel'].T @ x + params['projection'].get('bias', 0), gates)


def plain(params, state, x):
    (a,) = affine(params, x, 1)
    return [np.tanh(a + params['kernel'].T @ state[0])]


def lstm(params, state, x):
    h, c = state
    U_i, U_f, U_g, U_o = np.split(params['kernel'], 4, axis=1)
    a_i, a_f, a_g, a_o = affine(params, x, 4)
    c = sigmoid(a_f + U_f.T @ h) * c + sigmoid(a_i + U_i.T @ h) * np.tanh(a_g + U_g.T @ h)
    return [sigmoid(a_o + U_o.T @ h) * np.tanh(c), c]


def layer_norm_lstm(params, state, x):
    h, c = state
    read = [a + U.T @ h for a, U in zip(affine(params, x, 4), np.split(params['kernel'], 4, axis=1), strict=True)]
    i, f, g, o = (layer_norm(a, scale, bias) for a, scale, bias in
                  zip(read, np.split(params['scales'], 4), np.split(params['biases'], 4), strict=True))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(layer_norm(c, params['cell_scale'], params['cell_bias'])), c]


def layer_norm(a, scale, bias):
    return (a - np.mean(a)) / np.sqrt(np.var(a) + 1e-6) * scale + bias


def gru_reset_before(params, state, x):
    (h,) = state
    U_r, U_z = np.split(params['gates_kernel'], 2, axis=1)
    a_r, a_z, a_n = affine(params, x, 3)
    r, z = sigmoid(a_r + U_r.T @ h), sigmoid(a_z + U_z.T @ h)
    candidate = np.tanh(a_n + params['candidate_kernel'].T @ (r * h))
    return [z * h + (1 - z) * candidate]


def gru_reset_after(params, state, x):
    (h,) = state
    U_r, U_z, U_n = np.split(params['kernel'], 3, axis=1)
    a_r, a_z, a_n = affine(params, x, 3)
    r, z = sigmoid(a_r + U_r.T @ h), sigmoid(a_z + U_z.T @ h)
    candidate = np.tanh(a_n + r * (U_n.T @ h + params['candidate_bias']))
    return [z * h + (1 - z) * candidate]


def positive(x):
    return np.array([number + 0.5 if number >= 0 else sigmoid(number) for number in x])


def minimal_gru(params, state, x):
    a_z, a_h = affine(params, x, 2)
    z = sigmoid(a_z)
    return [(1 - z) * state[0] + z * positive(a_h)]


def minimal_lstm(params, state, x):
    a_f, a_i, a_h = affine(params, x, 3)
    f, i = sigmoid(a_f), sigmoid(a_i)
    return [f / (f + i) * state[0] + i / (f + i) * positive(a_h)]


def rg_lru(params, state, x):
    u, a_r, a_i = affine(params, x, 3)
    a = np.exp(-8 * sigmoid(a_r) * np.log(1 + np.exp(params['rate'])))
    return [a * state[0] + np.sqrt(1 - a**2) * (sigmoid(a_i) * u)]


def lru(params, state, x):
    _, real, imaginary = state
    B_real, B_imaginary, D = np.split(params['projection']['kernel'].T, 3)
    decay = np.exp(-np.exp(params['log_rate']) + 1j * np.exp(params['log_angle']))
    h = decay * (real + 1j * imaginary) + np.exp(params['log_gain']) * ((B_real + 1j * B_imaginary) @ x)
    return [lru_reads(params, h) + D @ x, h.real, h.imag]


def lru_reads(params, h):
    return ((params['output_real'] + 1j * params['output_imaginary']).T @ h).real


def lru_start_from(params, vector):
    real, imaginary = np.split(vector, 2)
    return [lru_reads(params, real + 1j * imaginary), real, imaginary]


def slstm(params, state, x):
    """Without the scale: what is stored, times e^m, is what the paper's first formulas keep."""
    h, c, n, m = state
    z, i, f, o = (a + R.T @ h for a, R in zip(affine(params, x, 4), np.split(params['kernel'], 4, axis=1), strict=True))
    c = sigmoid(f) * c * np.exp(m) + np.exp(i) * np.tanh(z)
    n = sigmoid(f) * n * np.exp(m) + np.exp(i)
    m = np.maximum(i, np.log(sigmoid(f)) + m)
    return [sigmoid(o) * c / n, c * np.exp(-m), n * np.exp(-m), m]


def slstm_final(state):
    h, c, n, _ = state
    return np.concatenate([h, [weight and content / weight for content, weight in zip(c, n, strict=True)]])


def slstm_start_from(params, vector):
    h, c = np.split(vector, 2)
    return [h, c, np.ones(len(c)), np.zeros(len(c))]


def mlstm(params, state, x):
    """Without the scale: what is stored, times e^m, is what the paper's first formulas keep."""
    _, M, n, (m,) = state
    H = len(n)
    q, k, v, o, (i,), (f,) = affine(params, x, [H, 2 * H, 3 * H, 4 * H, 4 * H + 1])
    k = k / np.sqrt(H)
    M = sigmoid(f) * M * np.exp(m) + np.exp(i) * np.outer(v, k)
    n = sigmoid(f) * n * np.exp(m) + np.exp(i) * k
    m = max(i, np.log(sigmoid(f)) + m, 0)
    return [sigmoid(o) * (M @ q) / max(abs(n @ q), 1), M * np.exp(-m), n * np.exp(-m), np.array([m])]


def mlstm_start_from(params, vector):
    k, v = np.split(vector, 2)
    k = k / np.sqrt(len(k))
    return [v, np.outer(v, k), k, np.zeros(1)]


def sru(params, state, x):
    _, c = state
    candidate, a_f, a_r, x = affine(params, x, 4)
    (v_f, v_r), (b_f, b_r) = np.split(params['peepholes'], 2), np.split(params['biases'], 2)
    f, r = sigmoid(a_f + v_f * c + b_f), sigmoid(a_r + v_r * c + b_r)
    c = f * c + (1 - f) * candidate
    return [r * c + (1 - r) * x, c]


def qrnn(params, state, x):
    _, c, before = state
    W, V = np.split(params['projection']['kernel'].T, 2)
    z, f, o = np.split(W @ x + before, 3)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
    return [sigmoid(o) * c, c, V @ x]


class Oracle(NamedTuple):
    """What a cell computes, and what its state is."""

    step: Callable            # (params, state, x) -> state
    start: Callable           # H -> the state in which nothing was read
    final: Callable = np.concatenate                           # state -> what an encoder hands on
    start_from: Callable = lambda params, vector: [vector]     # params, vector -> the state that a decoder begins with
    valid: Callable = lambda *state: state                     # numbers of any sign -> a state that may occur


def vectors(count):
    return lambda H: [np.zeros(H)] * count


ORACLES = {
    'plain': Oracle(plain, vectors(1)),
    'lstm': Oracle(lstm, vectors(2), start_from=lambda params, vector: np.split(vector, 2)),
    'gru_reset_before': Oracle(gru_reset_before, vectors(1)),
    'gru_reset_after': Oracle(gru_reset_after, vectors(1)),
    'layer_norm_lstm': Oracle(layer_norm_lstm, vectors(2), start_from=lambda params, vector: np.split(vector, 2)),
    'minimal_gru': Oracle(minimal_gru, vectors(1)),
    'minimal_lstm': Oracle(minimal_lstm, vectors(1)),
    'rg_lru': Oracle(rg_lru, vectors(1)),
    'lru': Oracle(lru, vectors(3), start_from=lru_start_from),
    'slstm': Oracle(slstm, lambda H: [*vectors(3)(H), np.full(H, -np.inf)], slstm_final, slstm_start_from,
                    lambda h, c, n, m: (h, c, 0.5 + np.abs(n), m)),
    'mlstm': Oracle(mlstm, lambda H: [np.zeros(H), np.zeros((H, H)), np.zeros(H), np.zeros(1)],
                    lambda state: state[0], mlstm_start_from),
    'sru': Oracle(sru, vectors(2), start_from=lambda params, vector: [vector, vector]),
    'qrnn': Oracle(qrnn, lambda H: [np.zeros(H), np.zeros(H), np.zeros(3 * H)],
                   lambda state: np.concatenate(state[:2]),
                   lambda params, vector: [vector, vector, np.zeros(3 * len(vector))]),
}


def over(name, params, inputs, lengths, state, reverse=False):
    """Reads the real positions of each sentence, and only those: -> outputs [B, S, H], the last states."""
    B, S, _ = inputs.shape
    outputs, finals = np.zeros((B, S, state[0].shape[1])), [array.copy() for array in state]
    for b in range(B):
        arrays = [array[b] for array in state]
        for s in sorted(range(lengths[b]), reverse=reverse):
            arrays = ORACLES[name].step(params, arrays, inputs[b, s])
            outputs[b, s] = arrays[0]
        for final, array in zip(finals, arrays, strict=True):
            final[b] = array
    return outputs, finals
