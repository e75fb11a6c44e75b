"""One recurrent step: one contract, one registry, one file for each family of cells."""
