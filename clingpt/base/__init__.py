"""What every other package builds on: errors, settings, console, files, workers, signals.

May import: no other package of clingpt.
"""
