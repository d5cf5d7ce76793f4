# Evidence inference: did an outcome of a trial increase (yes), decrease (no), or neither (maybe)?
# From the base of config/clinical_base.py.
#   prepare:  python prepare.py --source=evidence_inference_labels.jsonl.gz --task=answer \
#                 --input=input --or_input abstract \
#                 --labels "significantly increased=yes" "significantly decreased=no" \
#                 "no significant difference=maybe" --tokenizer=data/clinical/base --allow_phi \
#                 --out=data/clinical/evidence
#   run:      python train.py config/evidence.py
#   or all:   make clinical DATA=folder
# Hardware:  two CPU cores; about 0.7 GB of memory.
# Time:      not measured.
# Expected:  not measured.

data = "data/clinical/evidence"
out = "out/clinical/evidence"
init_from = "out/clinical/base"

block_size = 1024
dropout = 0.1
batch_size = 2
micro_batch_size = 2
epochs = 3
optimizer = "muon"
learning_rate = 1e-3
min_lr = 1e-5
warmup_steps = 40
beta2 = 0.99
eval_every = 100
patience = 3
sample = False
log_every = 20
compile = False
device = "cpu"
