"""Values only: what an experiment is made of. Nothing here computes."""
