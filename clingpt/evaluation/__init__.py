"""Measuring a model: metrics, baselines, intervals, calibration, faithfulness, memorisation.

May import: base, text, data, nn, decoding.
"""
