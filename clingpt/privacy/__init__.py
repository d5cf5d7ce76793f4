"""Identifiers of people in text: finding them and replacing them.

May import: base, text.
"""
