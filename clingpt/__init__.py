"""The parts that the commands share: one concept a module, nothing re-exported."""
