"""Text and what is asked of it: tokenizer, records, sentences, tasks, windows over long reports.

May import: base.
"""
