# %% [markdown]
# # What do two companies tell each other when they match their customers?
#
# Before training, both must find the rows that they share. We match two small lists three ways, look at what really
# crosses the wire, and play the curious partner who tries every id it can think of.

# %%
# %matplotlib inline
import hashlib

import numpy as np
import torch

from experiments import plots
from experiments.align_files import play
from vfl.registry import build
from vfl.seeds import Seeds

rng = np.random.default_rng(0)
phones = [f"+4915{number:08d}" for number in rng.choice(10**6, 1500, replace=False)]
ids = {"publisher": phones[:1000], "advertiser": phones[700:1500]}
print(
    len(ids["publisher"]),
    "at the publisher,",
    len(ids["advertiser"]),
    "at the advertiser,",
    len(set(ids["publisher"]) & set(ids["advertiser"])),
    "shared",
)

# %% [markdown]
# The same intersection by each aligner: `plain` sends ids as they are, `salted_hash` their hash under a salt that both
# know, `ecdh_psi` points on a curve masked with secrets of both.

# %%
played = {}
for name in ("plain", "salted_hash", "ecdh_psi"):
    seeds = {party: Seeds(0).scope(party) for party in ids}
    lists = (
        ids if name != "plain" else {party: torch.tensor([int(text[1:]) for text in own]) for party, own in ids.items()}
    )
    played[name] = play(build("align", {"name": name}), lists, seeds)
    aligned = played[name].alignments
    shared = [ids["publisher"][row] for row in aligned["publisher"].order.tolist()]
    same = shared == [ids["advertiser"][row] for row in aligned["advertiser"].order.tolist()]
    print(
        f"{name:12s} {len(shared)} rows, in one order for both: {same}; {sum(played[name].bytes_sent.values()):,} bytes"
    )

# %%
plots.stacked(
    [(name, {kind: count / 1000 for kind, count in run.bytes_sent.items()}) for name, run in played.items()], "kB"
)

# %% [markdown]
# A phone number is one of a few million. Whoever holds a hash of one and knows the salt tries them all:

# %%
salt = b"agreed last year"
leaked = {hashlib.sha256(salt + own.encode()).hexdigest() for own in ids["advertiser"]}
guesses = (f"+4915{number:08d}" for number in range(10**6))
broken = [guess for guess in guesses if hashlib.sha256(salt + guess.encode()).hexdigest() in leaked]
print(f"{len(broken)} of {len(leaked)} hashed numbers named by trying a million of them")

# %% [markdown]
# Against masked points the same dictionary is of no use: to test a guess one needs the other's secret. What each side
# does learn is counted below.

# %%
alignment = played["ecdh_psi"].alignments
print(
    "the publisher learns how many ids the advertiser holds, and which of its own all share:",
    len(alignment["publisher"].order),
)
print("the advertiser learns how many ids the publisher holds alone:", alignment["advertiser"].held.get("publisher"))

# %% [markdown]
# ## Finding

# %%
plain, hashed, masked = (sum(played[name].bytes_sent.values()) for name in ("plain", "salted_hash", "ecdh_psi"))
print(
    f"Hashing named {len(broken) / len(leaked):.0%} of the other side's customers to anyone with the salt; masking costs {masked / hashed:.1f} times the bytes and names none."
)
print(
    "Act on it: never call a salted hash private where ids can be listed. Use ecdh_psi, and bound how many ids a partner may ask for:"
)
print("membership of any id it can name is what the protocol gives by design.")
