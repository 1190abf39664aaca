"""The sub-networks of a net that has weights, as a search space: subnets(of=NAME or model folder)."""
