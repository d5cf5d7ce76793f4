"""The parts of a training run: batches, optimizer step, state, validation, tracking, search.

May import: everything from base up to reports.
"""
