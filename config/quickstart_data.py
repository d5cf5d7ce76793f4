# The quickstart's data: generated abstracts, whose yes/no/maybe follows from their RESULTS alone.
#   run:       python prepare.py config/quickstart_data.py
# Hardware:  any CPU.
# Time:      seconds.
# Expected:  a table; no overlap of names, numbers or clause combinations between train and test.

source = "synthetic"
out = "data/quickstart"
tasks = ("answer",)
block_size = 512
synthetic_records = 24000
