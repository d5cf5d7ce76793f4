# Phase II on a CPU: train a GPT-2 of 7 million parameters on PubMedQA's answers. It shows the
# effect of an earlier phase (docs/recipes.md); 450 records alone cannot teach it to read.
#   prepare:  python prepare.py --source=pubmedqa --tasks=answer --out=data/pubmedqa_answers
#   run:      python train.py config/pubmedqa_small.py
#   or:       python train.py config/pubmedqa_small.py --init_from=out/domain_small/best
# Hardware:  one CPU core.
# Time:      about 3 min: 4,500 tokens/s on one core of an AMD EPYC, one in seven of them a target.
# Expected:  not measured.

data = "data/pubmedqa_answers"
out = "out/pubmedqa_small"
init_from = "scratch"

n_layer = 4
n_head = 4
n_embd = 128
block_size = 1024
dropout = 0.1
batch_size = 2
micro_batch_size = 2
steps = 415
learning_rate = 2e-3
min_lr = 2e-4
warmup_steps = 40
eval_every = 50
sample = False
log_every = 10
compile = False
device = "cpu"
