"""State, loss, step, loop, checkpoints and reports of one run."""
