# Fine-tune GPT-2 355M on PubMedQA's 450 labelled training records (fold 0 validates).
#   prepare:  python prepare.py --source=pubmedqa --out=data/pubmedqa
#   run:      python train.py config/pubmedqa_medium.py
# Hardware:  one GPU of 24 GB: 5.7 GB of weights, gradients and moments (16 bytes per parameter).
#            Recomputed blocks and small micro-batches keep the activations small.
# Time:      not measured.
# Expected:  not measured.

data = "data/pubmedqa"
out = "out/pubmedqa_medium"
init_from = "gpt2-medium"

block_size = 1024
batch_size = 16
micro_batch_size = 4
checkpoint_activations = True
epochs = 4
learning_rate = 3e-5
min_lr = 3e-6
warmup_steps = 20
dropout = 0.1
eval_every = 20
