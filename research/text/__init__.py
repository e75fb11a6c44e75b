"""From files to integers: corpora, vocabularies, batches of few shapes. Imports no jax."""
