"""Controlled experiments: paired trainings of a base and its variants, and what their differences say."""
