"""The parts of a training run: batches, step, state, validation, tracking, search.

May import: everything from base up to reports.
"""
