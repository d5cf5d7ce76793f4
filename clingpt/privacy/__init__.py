"""Identifiers of people (PHI): find them in text by rules, and replace them.

May import: base, text.
"""
