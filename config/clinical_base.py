# A small GPT-2 trained from scratch on clinical text. The tasks of docs/clinical.md start from it.
#   prepare:  python prepare.py --mix mtsamples.jsonl.gz=1 articles.jsonl.gz=0.2 --tasks=text \
#                 --train_tokenizer=4096 --val_share=0.005 --test_share=0 --out=data/clinical/base
#   run:      python train.py config/clinical_base.py
#   or all:   make clinical DATA=folder
# Hardware:  two CPU cores; about 0.7 GB of memory.
# Time:      not measured.
# Expected:  not measured.

data = "data/clinical/base"
out = "out/clinical/base"
init_from = "scratch"

n_layer = 4
n_head = 3
n_embd = 192
block_size = 1024
dropout = 0.0
# Few rows: after 1.3 million tokens, steps of 2 rows had a loss of 5.26, and steps of 8 rows 5.49
# (AdamW, one seed). With 2, however, Muon would take a quarter of the time.
batch_size = 4
micro_batch_size = 4
epochs = 1
optimizer = "muon"
learning_rate = 2e-3
min_lr = 5e-5
warmup_steps = 100
beta2 = 0.99
eval_every = 1000
sample = False
log_every = 50
compile = False
device = "cpu"
