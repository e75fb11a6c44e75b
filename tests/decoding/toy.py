"""A model that is a few random tables, and the same model and every search over it in float64 NumPy, prefix by prefix.

The scores of the next symbol depend on the source, the symbol before, the position, and a state that hashes all symbols
so far: a carry that does not follow its beam gives other scores.
"""

import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.models import contract
from research.models.contract import Decoded, EncoderDecoder
from research.shapes import Array, Batch, Places
from research.text.vocabulary import BEGIN, END, PAD

V, SOURCE, S, N, STATES, LONGEST = 6, 11, 5, 2, 7, 13
WRITABLE = [symbol for symbol in range(V) if symbol not in (PAD, BEGIN)]
CAN_BE_WRITTEN = np.isin(np.arange(V), WRITABLE)
LENGTHS = [5, 3, 1]
SHAPES = {'sources': (SOURCE, V), 'transitions': (V, V), 'positions': (LONGEST, V), 'histories': (STATES, V),
          'pointers': (N, STATES, SOURCE)}


class ToyMemory(NamedTuple):
    total: Array   # [B, V]
    tokens: Array  # int32 [B, S]
    real: Array    # bool [B, S]


class ToyCarry(NamedTuple):
    state: Array     # int32 [B]
    position: Array  # int32 [B]


class Toy(EncoderDecoder):
    explicit: bool = True  # return weights

    def setup(self):
        for name, shape in SHAPES.items():
            setattr(self, name, self.param(name, nn.initializers.zeros, shape))

    def encode(self, source, places, rng=None):
        real = places.segment > 0
        return ToyMemory(jnp.sum(jnp.where(real[..., None], self.sources[source], 0), axis=1), source, real)

    def start(self, memory, length):
        zeros = jnp.zeros(memory.tokens.shape[0], jnp.int32)
        return ToyCarry(zeros, zeros)

    def step(self, memory, carry, token):
        state = (3 * carry.state + token) % STATES
        hidden = (memory.total + self.transitions[token] + self.positions[carry.position] + self.histories[state])
        weights = None
        if self.explicit:
            energies = self.pointers[jnp.arange(N)[:, None], state[:, None, None], memory.tokens[:, None]]
            weights = jnp.where(memory.real[:, None], jax.nn.softmax(
                jnp.where(memory.real[:, None], energies, -1e30), axis=-1), 0)
        return hidden, weights, ToyCarry(state, carry.position + 1)

    def decode(self, memory, inputs, places, rng=None):
        def one(carry, token):
            hidden, weights, carry = self.step(memory, carry, token)
            return carry, (hidden, weights)
        _, (hidden, weights) = jax.lax.scan(one, self.start(memory, inputs.shape[1]), inputs.T)
        return Decoded(jnp.moveaxis(hidden, 0, 1), None if weights is None else jnp.moveaxis(weights, 0, 2),
                       jnp.zeros(()))

    def logits(self, hidden):
        return hidden


MODEL = Toy()


def places(lengths, width):
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(lengths), width))
    return Places((position < np.array(lengths)[:, None]).astype(np.int32), position)


def a_source(lengths=LENGTHS, width=S, seed=0):
    """Random source symbols, also where there is padding, and their places."""
    tokens = np.random.default_rng(seed).integers(0, SOURCE, (len(lengths), width)).astype(np.int32)
    return tokens, places(lengths, width)


def a_batch(source, source_places, tokens, lengths):
    """The pairs of sources and given targets [B, T]."""
    inputs = np.concatenate([np.full((len(tokens), 1), BEGIN), tokens[:, :-1]], axis=1).astype(np.int32)
    return Batch(source, source_places, inputs, tokens, places(lengths, tokens.shape[1]))


def tables(seed):
    """Random parameters of the toy."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


@jax.jit
def forced_weights(tables, batch):
    """The weights [B, N, T, S] of given targets, all at once."""
    memory = contract.encode(MODEL, tables, batch.source, batch.source_places)
    return contract.decode(MODEL, tables, memory, batch.inputs, batch.target_places).weights


# ------------------------------------------------------------------------------------------ float64, prefix by prefix

def gains(tables, source, prefix):
    """log p of each next symbol [V], -inf for those that are never written; source: a list of real symbols.

    A list of tables is an ensemble.
    """
    if isinstance(tables, list):
        return np.log(np.mean([np.exp(gains(one, source, prefix)) for one in tables], axis=0), where=CAN_BE_WRITTEN,
                      out=np.full(V, -np.inf))
    tables = {name: np.float64(table) for name, table in tables.items()}
    state = 0
    for symbol in (BEGIN, *prefix):
        state = (3 * state + symbol) % STATES
    scores = (sum(tables['sources'][symbol] for symbol in source) + tables['transitions'][(BEGIN, *prefix)[-1]]
              + tables['positions'][len(prefix)] + tables['histories'][state])
    result = scores - np.log(np.sum(np.exp(scores - scores.max()))) - scores.max()
    result[[PAD, BEGIN]] = -np.inf
    return result


def total(tables, source, tokens):
    """Log p of all of these symbols."""
    return sum(gains(tables, source, tokens[:t])[symbol] for t, symbol in enumerate(tokens))


def wu(score, length, penalty):
    return score / ((5 + length) / 6) ** penalty


def power(score, length, penalty):
    return score / length ** penalty


PENALISE = {'wu': wu, 'power': power}


def unread(tables, source, tokens):
    """The sum over the source of log(min(what these symbols read of a position, the mean over the heads, 1))."""
    pointers, state, read = np.float64(tables['pointers']), 0, 0.0
    for symbol in (BEGIN, *tokens[:-1]):
        state = (3 * state + symbol) % STATES
        weights = np.exp(pointers[:, state][:, source])
        read = read + np.mean(weights / weights.sum(axis=1, keepdims=True), axis=0)
    return np.sum(np.log(np.minimum(read, 1)))


def follow(gains, prefix, position):
    """The same row, -inf for all but the symbol that the prefix has at this position."""
    given = (prefix[position],) if position < len(prefix) else range(V)
    return np.where(np.isin(np.arange(V), given), gains, -np.inf)


def greedy(tables, source, length, prefix=()):
    """(symbols, score)"""
    tokens, score = (), 0.0
    while len(tokens) < length and tokens[-1:] != (END,):
        gain = follow(gains(tables, source, tokens), prefix, len(tokens))
        tokens, score = (*tokens, int(np.argmax(gain))), score + gain.max()
    return tokens, score


def in_order(tables, source, hypotheses, penalty, penalise_by='wu', coverage=0.0):
    """Of {symbols: score}: [(symbols, score, penalised)], those that end first, each sort by penalised score."""
    rows = [(tokens, score, PENALISE[penalise_by](score, len(tokens), penalty)
             + (coverage and coverage * unread(tables, source, tokens))) for tokens, score in hypotheses.items()]
    return sorted(rows, key=lambda row: (row[0][-1] != END, -row[2]))


def outputs(length):
    """Every output there is: those that end, and those of the full length that do not."""
    words = [symbol for symbol in WRITABLE if symbol != END]
    yield from ((*prefix, END) for size in range(length) for prefix in itertools.product(words, repeat=size))
    yield from itertools.product(words, repeat=length)


def exhaustive(tables, source, length, *ranking):
    """Every output there is, best first."""
    return in_order(tables, source, {tokens: total(tables, source, tokens) for tokens in outputs(length)}, *ranking)


def beam(tables, source, length, beams, *ranking, prefix=(), enough=np.inf):
    """Beam search to the full length, or until enough outputs have ended: the best `beams` of them, best first."""
    live, finished = {(): 0.0}, {}
    for position in range(length):
        if len(finished) >= enough:
            break
        extensions = {(*tokens, symbol): score + gain for tokens, score in live.items()
                      for symbol, gain in enumerate(follow(gains(tables, source, tokens), prefix, position))
                      if gain > -np.inf}
        order = sorted(extensions, key=extensions.get, reverse=True)
        finished |= {tokens: extensions[tokens] for tokens in order[:beams] if tokens[-1] == END}
        live = {tokens: extensions[tokens] for tokens in [row for row in order if row[-1] != END][:beams]}
    return in_order(tables, source, finished | live, *ranking)[:beams]


def drawn(gains, temperature, top_k, top_p):
    """The probabilities [V] that the next symbol is drawn with: the k best of all, then their nucleus."""
    p = np.where(np.isneginf(gains), 0, np.exp((gains - gains.max()) / temperature))
    order = np.argsort(-p, kind='stable')[:top_k]
    p = np.where(np.isin(np.arange(V), order), p, 0) / sum(p[order])
    size = next(size for size in range(1, V + 1) if size == len(order) or sum(p[order[:size]]) >= top_p)
    p = np.where(np.isin(np.arange(V), order[:size]), p, 0)
    return p / p.sum()


def frequencies(tables, source, length, temperature=1.0, top_k=None, top_p=1.0):
    """{output: the probability that it is drawn}, of every output there is."""
    return {tokens: np.prod([drawn(gains(tables, source, tokens[:t]), temperature, top_k, top_p)[symbol]
                             for t, symbol in enumerate(tokens)]) for tokens in outputs(length)}
