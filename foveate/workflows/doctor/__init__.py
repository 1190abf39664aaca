"""What this machine has, and what holds training back, measured."""
