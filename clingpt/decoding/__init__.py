"""From prompts to tokens: engine, sampling, label scores, streaming, CUDA graphs, 8-bit weights.

May import: base, text, nn.
"""
