"""The tables of the papers as experiments: each at the size of a machine, with intervals and a verdict."""
