"""LOMPO (Rafailov et al. 2021, "Offline Reinforcement Learning from Images with Latent Space Models").

A world model with seven prior heads on a shared GRU; its loss, with one head k drawn for each row,

    E_q[ -ln p(o | s) - ln p(r | s) ] + KL[q(z | h, o) ‖ p_k(z | h)]                          (no balance, no free nats)

Two buffers of transitions between latent states: real ones between the posterior states of the dataset's episodes, imagined
ones of five rows from a batch's posterior states under a = clip(π(s) + N(0, 0.2²)), whose rewards are lowered by what the
heads do not agree on,

    r̂(s') - λ_p std_k[ ln p_k(z' | h') ]

Twin Q and a deterministic actor learn from equal parts of both, y = r + γ min Q̄(s', π(s')), actor loss -min Q(s, π(s)).

Schedules. `phased` is the published one: the world model first; then actor and critics with the world model frozen, and
every 200 updates one more episode encoded and one more batch imagined. `joint` updates world model, actor and critics on
every batch, as the other methods of the table do, and imagines from the batch's own states; quick uses it, so that at every
checkpoint all methods have had the same number of updates of each kind. The buffers then hold what the world model thought
some updates ago, so quick refreshes more of them: every 10 updates 8 episodes (published: one every 200, under a world
model that no longer changes) and 1,280 imagined transitions; of a dataset of 10 episodes both are renewed in 20 updates.
Quick has categorical latents as its other methods have; ln p_k is that of the drawn classes. Its slow critics follow ten
times faster (τ 0.05) and its critics learn at 1e-3: 1,350 updates would be 7 time constants of the published targets.

What is shared with the other world models where the published code has its own, so that the table compares methods and not
network details: the GRU (Keras's there; both gate the candidate after the matrix product), ELU after convolutions (ReLU
there), std = 2 σ(x/2) + 0.1 (softplus(x) + 0.1 there), PyTorch's initialisation (Glorot's there), separate input weights of
the RSSM. Sizes and learning rates are the published ones.

Other differences from the published code:
- The targets start as copies of the critics; there they are copied before they have weights, and start from others.
- The KL is computed as half of KL[q ‖ sg p] and half of KL[sg q ‖ p], times 2: the gradient is that of the plain KL, the
  metric `model/kl` shows twice its value.
- Batches come from episodes that are long enough; there short ones are padded and masked. All episodes here are.
- Imagination fills its buffer once before the first update where the buffer has no room for 50,000 transitions (there it
  would imagine for ever).
- Their conservative term has the coefficient 0 and is left out, as is `pcont`: no episode here ends but by time limit.
- λ_p is 5 per reward of one decision; quick, whose rewards are divided by the largest, divides λ_p by the same.
"""

from __future__ import annotations

from coworld_bench.lompo import LOSS, OWN, SHARED, Lompo, LompoSettings
from coworld_bench.methods import Method

METHOD = Method(name="lompo", label="LOMPO", learner=Lompo, settings=LompoSettings, shared=SHARED, own=OWN, loss=LOSS)
