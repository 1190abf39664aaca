"""Compression of a trained model: smaller networks step by step, each fine-tuned and measured."""
