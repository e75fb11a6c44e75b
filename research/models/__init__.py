"""Encoders, decoders and what pairs them."""
