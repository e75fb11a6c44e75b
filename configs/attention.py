"""The readers and mixers that can be chosen, one line a variant: its options and their values."""

from ml_collections import ConfigDict

# What makes weights of energies: a key of NORMALISERS in research/attention/normalisers.py.
SOFTMAX = {'normaliser': 'softmax'}

# Many heads, and the parts of them that can be changed one by one or together.
HEADS = {
    'heads': 4,                         # N
    'key_value_heads': 0,               # K; 0 = N
    'head_width': 0,                    # H; 0 = features / heads
    'projection_bias': False,
    'position': {'name': 'none'},       # a relative scheme: configs/positions.py; self role only
    'reach': {'name': 'everything'},    # which distances are read; self role only
    'normaliser': 'softmax',
    'query_key_norm': 'none',           # none, rms, layer or unit
    'softcap': 0.0,                     # logits are cap tanh(logits / cap); 0.0 = as they are
    'gate': 'none',                     # none, head or element: sigmoid(x W) on what was read
}
PAIRED = {'head_width': 0, 'projection_bias': False, 'position': {'name': 'none'}, 'reach': {'name': 'everything'},
          **SOFTMAX}

# Features that are compared; path 'chunked' makes sums of them, C positions at a time where it is causal.
LINEAR = {'heads': 4, 'head_width': 0, 'feature_map': {'name': 'elu'}, 'chunk': 64,
          'segments': 1}  # the most sentences in a row that path 'chunked' keeps apart where it is not causal

OPTIONS = {
    # controls: what is lost when the source is not read position by position
    'none': {},
    'fixed_context': {},
    'mean': {},
    # one head, one energy
    'additive': {'energy_width': 128, **SOFTMAX},
    'dot': SOFTMAX,
    'scaled_dot': {'scale': 'width', **SOFTMAX},
    'general': SOFTMAX,
    'concat': {'energy_width': 128, 'source_projection': 'learned', **SOFTMAX},  # or identity: energy_width is then D_s
    'additive_normalised': {'energy_width': 128, **SOFTMAX},
    'key_value_memory': SOFTMAX,  # its context is half as wide as an annotation
    # one head, restricted to a part of the source
    'location': {'maximum_length': 256, **SOFTMAX},  # S_max: a longer source is refused
    'local_monotonic': {'window': 10, 'energy': 'general', **SOFTMAX},  # C on each side; energy: dot or general
    'local_predictive': {'window': 10, 'energy': 'general', 'energy_width': 128, **SOFTMAX},  # A predicts the centre
    # one head, looking back at what it has read
    'coverage': {'energy_width': 128, 'penalty_weight': 1.0, **SOFTMAX},  # of reading the same again, in the loss
    'location_sensitive': {
        'energy_width': 128,
        'filters': 32,
        'width': 31,          # positions that a filter sees, odd
        'cumulative': True,   # they also see the sum of all weights before, as in Tacotron 2
        **SOFTMAX,
    },
    'monotonic': {
        'energy_width': 128,
        'mode': 'soft',       # soft to train; hard, from position to position, to evaluate
        'noise': 1.0,         # standard deviation of what is added to energies while training
    },
    # many heads, other energies
    'multi_head_additive': {'heads': 4, 'head_width': 0, 'energy_width': 128, 'projection_bias': False, **SOFTMAX},
    # many heads
    'multi_head_dot': HEADS,
    'multi_query': {**HEADS, 'key_value_heads': 1},
    'grouped_query': {**HEADS, 'key_value_heads': 2},
    'sliding_window': {**HEADS, 'reach': {'name': 'window', 'width': 32}},
    'strided': {**HEADS, 'reach': {'name': 'strided', 'width': 16, 'stride': 16}},
    'global_window': {**HEADS, 'reach': {'name': 'global_window', 'width': 32, 'leaders': 4}},
    'big_bird': {**HEADS, 'reach': {'name': 'big_bird', 'width': 16, 'leaders': 4, 'block': 8, 'share': 0.1,
                                    'seed': 0}},
    'qk_norm': {**HEADS, 'query_key_norm': 'rms'},
    'softcap': {**HEADS, 'softcap': 50.0},
    'learned_sink': {**HEADS, 'normaliser': 'learned_sink'},
    'softmax_one': {**HEADS, 'normaliser': 'softmax_one'},
    'sigmoid': {**HEADS, 'normaliser': 'sigmoid'},
    'sparsemax': {**HEADS, 'normaliser': 'sparsemax'},
    'entmax': {**HEADS, 'normaliser': 'entmax'},
    'gated': {**HEADS, 'gate': 'element'},
    # many heads, other wirings
    'talking_heads': {**PAIRED, 'heads': 4},
    'differential': {**PAIRED, 'heads': 2, 'head_norm': True},  # pairs of heads, each twice as wide
    'forgetting': {'heads': 4, 'head_width': 0, 'projection_bias': False, **SOFTMAX},
    'selective': {'heads': 4, 'head_width': 0, 'projection_bias': False, **SOFTMAX},
    'multi_head_latent': {'heads': 4, 'head_width': 0, 'rank': 64, 'rotary_width': 0, 'base': 10000.0, **SOFTMAX},
    # controls of a mixer
    'synthesizer_dense': {'heads': 4, 'head_width': 0, 'maximum_length': 256, **SOFTMAX},
    'synthesizer_random': {'heads': 4, 'head_width': 0, 'maximum_length': 256, **SOFTMAX},
    'fourier': {},
    # memories of fixed size
    'linear': LINEAR,
    'taylor': {**LINEAR, 'head_width': 16, 'feature_map': {'name': 'taylor'}},  # 1 + H + H^2 features
    'performer': {**LINEAR, 'feature_map': {'name': 'performer', 'count': 64, 'seed': 0}},
    'retention': {'heads': 4, 'head_width': 0, 'base': 10000.0, 'chunk': 64},
    'gated_linear': {'heads': 4, 'head_width': 0, 'rank': 16, 'chunk': 64},
    'state_space': {'heads': 4, 'head_width': 0, 'state_width': 64, 'chunk': 64},
    'delta': {'heads': 4, 'head_width': 0, 'negative': False, 'chunk': 64},
    'gated_delta': {'heads': 4, 'head_width': 0, 'negative': False, 'chunk': 64},
}


def get(name: str) -> ConfigDict:
    """A variant by name, with the path it is computed on and its options."""
    return ConfigDict({
        'name': name,
        'path': 'explicit',  # how it is computed: explicit returns weights; others by python -m research.catalogue
        **OPTIONS[name],
    })
