"""The results of an evaluation as a typed report, tables, plots, report.html and a model card.

May import: everything from base up to evaluation.
"""

DISCLAIMER = "Not intended to inform diagnosis, treatment or patient management."
