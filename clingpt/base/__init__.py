"""What every other package builds on: errors, settings, console, files, workers, signals.

May import: nothing of ours.
"""
