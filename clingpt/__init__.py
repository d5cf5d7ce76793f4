"""The parts that the commands share, in packages; docs/architecture.md shows the house."""
