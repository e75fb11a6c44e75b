"""The parts that models share: embedding, feed-forward, norm, dropout."""
