"""From a source of records to packed rows of tokens, without torch.

May import: base, text, privacy.
"""
