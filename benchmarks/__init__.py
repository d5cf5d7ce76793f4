"""Speed and memory compared with other programs, and a summary of the clinical runs.

May import: everything. Nothing imports it.
"""
