"""The relative positions that a mixer can have, one line a scheme: its options and their values."""

from ml_collections import ConfigDict

OPTIONS = {
    'rotary': {'base': 10000.0},                              # of the wavelengths
    'alibi': {},
    't5_bias': {'buckets': 32, 'maximum_distance': 128},      # distances from there on share the last bucket
    'shaw': {'distance': 16},                                 # beyond it all distances are one
    'kerple_log': {},
    'kerple_power': {},
    'fire': {'hidden': 32, 'threshold': 512.0},               # width of its network; shares are of that many positions
}


def get(name: str) -> ConfigDict:
    """A scheme by name, with its options; 'none' has no line."""
    return ConfigDict({'name': name, **OPTIONS.get(name, {})})
