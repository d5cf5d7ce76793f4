"""Speed and memory beside other programs; imports anything, imported by nothing."""
