# Structured abstracts: everything but the conclusion to the conclusion, from the base of
# config/clinical_base.py.
#   prepare:  python prepare.py --source=structured_abstracts.jsonl.gz --task=summarize \
#                 --tokenizer=data/clinical/base --drop_overlap --allow_phi \
#                 --out=data/clinical/conclusions
#   run:      python train.py config/conclusions.py
#   or all:   make clinical DATA=folder
# Hardware:  two CPU cores; about 0.7 GB of memory.
# Time:      not measured.
# Expected:  not measured.

data = "data/clinical/conclusions"
out = "out/clinical/conclusions"
init_from = "out/clinical/base"

block_size = 1024
dropout = 0.1
batch_size = 2
micro_batch_size = 2
epochs = 2
optimizer = "muon"
learning_rate = 1e-3
min_lr = 1e-5
warmup_steps = 40
beta2 = 0.99
eval_every = 200
patience = 3
sample = False
log_every = 20
compile = False
device = "cpu"
