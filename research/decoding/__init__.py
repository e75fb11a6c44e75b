"""From scores to sequences: greedy and beam search; sees only models.contract."""
