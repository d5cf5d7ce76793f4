"""From prompts to tokens: the engine, sampling, fast linear layers, CUDA graphs, and JSON replies.

Also the interactive session and the batch files of sample.py.

May import: base, text, nn.
"""
