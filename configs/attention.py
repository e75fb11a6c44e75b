"""The readers and mixers that can be chosen, one line a variant: its options and their values."""

from ml_collections import ConfigDict

OPTIONS = {
    # controls: what is lost when the source is not read position by position
    'none': {},
    'fixed_context': {},
    'mean': {},
    # one head, one energy
    'additive': {'energy_width': 128},
    'dot': {},
    'scaled_dot': {'scale': 'width'},
    'general': {},
    # many heads
    'multi_head_dot': {'heads': 4, 'head_width': 0, 'projection_bias': False},
}


def get(name: str) -> ConfigDict:
    """A variant by name, with the path it is computed on and its options."""
    return ConfigDict({
        'name': name,
        'path': 'explicit',  # how it is computed: explicit returns weights; others by python -m research.catalogue
        **OPTIONS[name],
    })
