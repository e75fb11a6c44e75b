"""How a query reads a memory: one contract, one registry, one file for each family of variants."""
