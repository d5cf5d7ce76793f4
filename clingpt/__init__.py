"""The parts that clinGPT's commands share. Each module holds one concept; nothing is re-exported."""
