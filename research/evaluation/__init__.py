"""Outputs and references in, named numbers out. Imports no jax."""
