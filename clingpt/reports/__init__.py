"""What was measured, as tables, plots, a page and a model card.

May import: everything from base up to evaluation.
"""
