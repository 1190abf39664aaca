"""Which network suits some pictures and a budget: a shortlist, measured candidates, successive halving."""
