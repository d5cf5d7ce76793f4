"""Checkpoints in formats of other engines, each verified against the model.

May import: base, text, nn, decoding, evaluation.
"""
