# Data of the tiny preset: a few generated abstracts for every task.
#   run:       python prepare.py config/tiny_data.py
# Hardware:  any CPU.
# Time:      seconds.
# Expected:  a table of 40 training records and 8 for each of validation and test.

source = "synthetic"
out = "data/tiny"
tasks = ("answer", "summarize", "document")
block_size = 512
synthetic_records = 40
synthetic_held_out = 8
