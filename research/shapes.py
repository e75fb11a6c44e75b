"""The dimension key - one letter, one meaning - and the two records that every part exchanges.

Docstrings and einsum strings use these letters; one that needs another says what it is:

    B sentences            S source positions     T target positions    D model width
    N query heads          K key/value heads      H width of one head,  F feed-forward width
                                                    or of a cell's state
    A energy width         V vocabulary           W beams               C chunk or window
    R rows (B x T flattened)                      G pre-activations of a cell's gates

This file imports neither jax nor flax: batches are made of NumPy arrays, models see the same records as jax arrays.
"""

from typing import Any, NamedTuple

Array = Any  # a numpy.ndarray or a jax.Array; shapes stand in the docstrings


class Places(NamedTuple):
    """Where the positions of a batch of sequences are.

    Two positions may see each other when their segments are equal and not 0; causality and windows compare positions.

        tokens    ein Hund </s> <pad>   a dog </s>        (two sentences packed into one row, one pad between)
        segment   1   1    1    0       2 2   2
        position  0   1    2    0       0 1   2
    """

    segment: Array   # int32 [B, S]; 0 = padding, 1, 2, ... = the sentence this position belongs to
    position: Array  # int32 [B, S]; counts from 0 within each segment


class Batch(NamedTuple):
    """One batch of pairs, padded to one of a few fixed shapes.

    `inputs` is `targets` moved right by one, with the begin symbol in front. A row without a sentence (the last batch
    of an epoch is padded, not smaller) has segment 0 everywhere.
    """

    source: Array           # int32 [B, S]
    source_places: Places   # int32 [B, S] each
    inputs: Array           # int32 [B, T]: what the decoder reads
    targets: Array          # int32 [B, T]: what it should write; 0 where nothing is asked
    target_places: Places   # int32 [B, T] each
