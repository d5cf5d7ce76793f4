"""What every other package builds on: errors, settings, the console, files, worker processes, signals.

May import: nothing of ours.
"""
