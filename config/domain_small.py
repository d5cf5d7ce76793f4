# Phase 0 on a CPU: train a GPT-2 of 7 million parameters from scratch on domain text. With
# config/pubmedqa_small.py it measures whether such a phase helps (docs/recipes.md).
#   prepare:  python prepare.py --source=medquad.jsonl.gz --tasks=text --out=data/medquad \
#                 --val_share=0.005 --test_share=0 --allow_phi
#   run:      python train.py config/domain_small.py
#   then:     python train.py config/pubmedqa_small.py --init_from=out/domain_small/best
# Hardware:  one CPU core.
# Time:      about 8 min: 1,600 tokens/s on one core of an AMD EPYC, all of them targets.
# Expected:  explanations at 1.91 bits per byte after the next phase, and at 1.99 without this
#            one, both after 260 steps and with an equal budget of tokens.

data = "data/medquad"
out = "out/domain_small"
init_from = "scratch"

n_layer = 4
n_head = 4
n_embd = 128
block_size = 1024
dropout = 0.0
batch_size = 2
micro_batch_size = 2
steps = 390
learning_rate = 2e-3
min_lr = 2e-4
warmup_steps = 40
eval_every = 195
sample = False
log_every = 10
compile = False
device = "cpu"
