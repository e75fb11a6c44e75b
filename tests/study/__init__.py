"""Tests; the folders mirror those of research."""
