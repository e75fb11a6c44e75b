"""Every cell once more in float64 NumPy, written from the formulas: gate by gate, one sentence, one position at a time.

`params` are the cell's own, as nested dicts; a state is a list of vectors [H]; an input is a vector [D].
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def affine(params, x, gates):
    """W x + b, cut into the vectors of the gates."""
    return np.split(params['projection']['kernel'].T @ x + params['projection']['bias'], gates)


def plain(params, state, x):
    (a,) = affine(params, x, 1)
    return [np.tanh(a + params['kernel'].T @ state[0])]


def lstm(params, state, x):
    h, c = state
    U_i, U_f, U_g, U_o = np.split(params['kernel'], 4, axis=1)
    a_i, a_f, a_g, a_o = affine(params, x, 4)
    c = sigmoid(a_f + U_f.T @ h) * c + sigmoid(a_i + U_i.T @ h) * np.tanh(a_g + U_g.T @ h)
    return [sigmoid(a_o + U_o.T @ h) * np.tanh(c), c]


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


ORACLES = {'plain': plain, 'lstm': lstm, 'gru_reset_before': gru_reset_before, 'gru_reset_after': gru_reset_after}


def over(name, params, inputs, lengths, state, reverse=False):
    """Reads the real positions of each sentence, and only those: -> outputs [B, S, H], the last states [B, H] each."""
    B, S, _ = inputs.shape
    outputs, finals = np.zeros((B, S, state[0].shape[1])), [array.copy() for array in state]
    for b in range(B):
        vectors = [array[b] for array in state]
        for s in sorted(range(lengths[b]), reverse=reverse):
            vectors = ORACLES[name](params, vectors, inputs[b, s])
            outputs[b, s] = vectors[0]
        for final, vector in zip(finals, vectors, strict=True):
            final[b] = vector
    return outputs, finals
