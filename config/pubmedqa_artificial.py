# Phase I: GPT-2 124M on PQA-A, 211,269 abstracts with noisy yes/no labels made from their titles
# (93 % yes, never maybe). --yes_share balances the answers; the other tasks keep every record.
#   prepare:  python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5 \
#                 --against data/pubmedqa --drop_overlap
#   run:      python train.py config/pubmedqa_artificial.py
#   then:     python train.py config/pubmedqa.py --init_from=out/pubmedqa_artificial/best \
#                 --out=out/pubmedqa_two_phase
#   or all:   make pubmedqa
# Hardware:  one GPU of 24 GB or more.
# Time:      not measured; an epoch has about 250 million tokens.
# Expected:  not measured. Without phase I, models of 110M parameters stay near the majority class
#            (Jin et al. 2019, table 5).

data = "data/pqa_artificial"
out = "out/pubmedqa_artificial"
init_from = "gpt2"

block_size = 1024
batch_size = 64
micro_batch_size = 16
epochs = 1
learning_rate = 1e-4
min_lr = 1e-5
warmup_steps = 200
dropout = 0.0
eval_every = 500
log_every = 20
