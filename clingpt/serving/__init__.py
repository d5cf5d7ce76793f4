"""The HTTP server: OpenAI-compatible completions, the clinical tasks, and a web page.

May import: base, text, nn, decoding, evaluation, reports.
"""
