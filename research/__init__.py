"""Seq2Lab: sequence-to-sequence models in JAX and Flax, built to compare ways of reading the source."""
