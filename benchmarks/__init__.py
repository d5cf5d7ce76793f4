"""Speed and memory beside other programs.

May import: everything. Nothing imports it.
"""
