"""Text and tasks: tokenizer, records, sentences, prompts and targets, structured documents.

May import: base.
"""
