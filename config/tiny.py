# Train a tiny GPT-2 for twenty steps, to check that all parts work. tests/golden/tiny.json has its
# exact losses.
#   prepare:   python prepare.py config/tiny_data.py
#   run:       python train.py config/tiny.py
# Hardware:  any CPU.
# Time:      10 seconds.
# Expected:  training loss 10.8 at step 1, about 5.5 at step 20.

data = "data/tiny"
out = "out/tiny"
init_from = "scratch"

n_layer = 2
n_head = 2
n_embd = 32
block_size = 512
dropout = 0.1
batch_size = 4
micro_batch_size = 2
steps = 20
learning_rate = 1e-2
min_lr = 1e-3
warmup_steps = 4
eval_every = 10
eval_records = 4
max_new_tokens = 24
log_every = 1
device = "cpu"
