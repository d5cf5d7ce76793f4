"""Readers of files, one for each shape; `formats.py` is the table of them.

They yield rows and know nothing of tasks or splits.
"""
