"""Measuring a model: metrics, baselines, intervals, calibration, unsupported claims, memorisation.

May import: base, text, data, nn, decoding.
"""
