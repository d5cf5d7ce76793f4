"""Checkpoints for other engines, verified against the model.

May import: base, text, nn, decoding, evaluation.
"""
