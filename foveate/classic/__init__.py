"""The classical pipeline is learnt here: words and mixtures of descriptors, and a classifier of their vectors."""
