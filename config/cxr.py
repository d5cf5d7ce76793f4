# Chest X-ray reports: findings to impression, from the base of config/clinical_base.py. The whole
# report is a second task: an impression is a tenth of its tokens.
#   prepare:  python prepare.py --source=indiana_cxr.jsonl.gz --tasks text summarize \
#                 --tokenizer=data/clinical/base --drop_overlap --allow_phi --out=data/clinical/cxr
#   run:      python train.py config/cxr.py
#   or all:   make clinical DATA=folder
# Hardware:  two CPU cores; about 0.7 GB of memory.
# Time:      not measured.
# Expected:  not measured.

data = "data/clinical/cxr"
out = "out/clinical/cxr"
init_from = "out/clinical/base"

block_size = 1024
dropout = 0.1
batch_size = 2
micro_batch_size = 2
epochs = 4
optimizer = "muon"
learning_rate = 1e-3
min_lr = 1e-5
warmup_steps = 40
beta2 = 0.99
eval_every = 150
patience = 3
sample = False
log_every = 20
compile = False
device = "cpu"
