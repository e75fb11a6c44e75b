"""The machinery of ablations: arms, seeds, statistics, card and page."""
