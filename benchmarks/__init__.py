"""Speed and memory compared with other programs.

May import: everything. Nothing imports it.
"""
