# Data of the quickstart: generated abstracts whose answer follows from their RESULTS section.
#   run:       python prepare.py config/quickstart_data.py
# Hardware:  any CPU.
# Time:      seconds.
# Expected:  a table of counts. Train and test have no names, numbers or clause combinations in
#            common.

source = "synthetic"
out = "data/quickstart"
tasks = ("answer",)
block_size = 512
synthetic_records = 24000
