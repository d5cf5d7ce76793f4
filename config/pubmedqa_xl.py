# Fine-tune GPT-2 1.5B on PubMedQA's 450 labelled training records (fold 0 validates).
#   prepare:  python prepare.py --source=pubmedqa --out=data/pubmedqa
#   run:      python train.py config/pubmedqa_xl.py
# Hardware:  one GPU of 80 GB: 24.9 GB of weights, gradients and moments (16 bytes per parameter).
#            Recomputed blocks and small micro-batches keep the activations small.
# Time:      not measured.
# Expected:  not measured.

data = "data/pubmedqa"
out = "out/pubmedqa_xl"
init_from = "gpt2-xl"

block_size = 1024
batch_size = 16
micro_batch_size = 8
checkpoint_activations = True
epochs = 4
learning_rate = 1e-5
min_lr = 1e-6
warmup_steps = 20
dropout = 0.1
eval_every = 20
