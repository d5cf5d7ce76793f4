"""Personal identifiers (PHI): finding them in text with rules, and replacing them.

May import: base, text.
"""
