# Data of the quickstart: generated abstracts whose answer follows from their RESULTS section.
#   run:       python prepare.py config/quickstart_data.py
# Hardware:  any CPU.
# Time:      seconds.
# Expected:  a table of counts. Train and test have no names, numbers or clause combinations in
#            common.

source = "synthetic"
out = "data/quickstart"
tasks = ("answer",)
# The records have about 350 different words, and each becomes one token. A small model needs no
# embedding of GPT-2's 50,257, and copies a word as a whole.
train_tokenizer = 1500
block_size = 512
synthetic_records = 24000
