# PubMedQA's 450 labelled training records, from the base of config/clinical_base.py.
#   prepare:  python prepare.py --source=ori_pqal.json --task=answer \
#                 --tokenizer=data/clinical/base --fold=0 --out=data/clinical/pubmedqa_fold0
#   run:      python train.py config/pubmedqa_from_base.py --data=data/clinical/pubmedqa_fold0
#   or all:   make clinical DATA=folder
# Hardware:  two CPU cores; about 0.7 GB of memory.
# Time:      not measured.
# Expected:  not measured.

data = "data/clinical/pubmedqa_from_base"
out = "out/clinical/pubmedqa_from_base"
init_from = "out/clinical/base"

block_size = 1024
dropout = 0.1
batch_size = 2
micro_batch_size = 2
epochs = 3
optimizer = "muon"
learning_rate = 5e-4
min_lr = 1e-5
warmup_steps = 40
beta2 = 0.99
eval_every = 100
patience = 3
sample = False
log_every = 20
compile = False
device = "cpu"
