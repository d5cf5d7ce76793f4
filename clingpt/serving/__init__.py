"""A checkpoint over HTTP.

May import: base, text, nn, decoding, evaluation, reports.
"""
