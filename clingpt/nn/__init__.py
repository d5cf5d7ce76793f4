"""Everything around model.py: devices and processes, kernels, LoRA, checkpoints and run folders.

May import: base, text, data.
"""
