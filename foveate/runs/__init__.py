"""A run: its plan, its setup, its training, and what is written when it ends."""
