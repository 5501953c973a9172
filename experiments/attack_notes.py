"""What `docs/results/attacks.md` says around its tables, and the published figures that ours stand beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """A published figure, and where ours is found: an attack's figure, or the test metric where `attack` is empty."""

    what: str
    published: str
    why: str
    data: str
    attack: str = ""
    figure: str = ""
    defense: str = "none"


_LI = "Fu et al., USENIX Security 2022"
_MARVELL = "Li et al., ICLR 2022, the authors' notebooks"

CHECKS = (
    Check(
        f"Criteo, undefended: 95 % quantile of the norm attack's abs(leak AUC - .5) ({_MARVELL})",
        ".451",
        "theirs is another network on the whole challenge; ours sees 6,500 rows for 3 epochs in batches of 256. Early "
        "in training the attack is at its best, which may be all of the difference",
        "criteo",
        "norm",
        "abs_q95",
    ),
    Check(
        f"Criteo, undefended: test AUC ({_MARVELL})",
        ".7810",
        "6,500 training rows against the whole challenge",
        "criteo",
    ),
    Check(
        f"Criteo, Marvell s=4: the same quantile ({_MARVELL})",
        ".058",
        "the floor of random scores is .041 for their batches of 1,024 and about .088 for ours of 256; ours is above "
        "both",
        "criteo",
        "norm",
        "abs_q95",
        "marvell(s=4)",
    ),
    Check(
        f"Avazu, undefended: the same quantile ({_MARVELL})",
        ".493",
        "a sample of 9,999 rows against the whole challenge",
        "avazu",
        "norm",
        "abs_q95",
    ),
    Check(
        f"CIFAR-10 half pictures: passive completion, 40 labels ({_LI}; train and test rows there, all rows here)",
        ".8024 / .6299 (a public rerun: .8721 / .6984)",
        "dense networks on 5,000 lossy pictures with a frozen bottom and a linear head, against all pictures and a "
        "bottom that is fine-tuned",
        "cifar10",
        "model_completion",
        "accuracy",
    ),
    Check(
        f"CIFAR-10 half pictures: main task ({_LI})",
        ".8280",
        "as above",
        "cifar10",
    ),
    Check(
        f"Criteo: model completion on test rows ({_LI}, active: .6830 of .7128 main-task accuracy)",
        ".6830 (active attack, 100 labels)",
        "ours is passive with 40 labels; 22 % of its rows are positive, so always naming the commoner class is right "
        "for .78 of them: it is worse than that. Read its leak AUC in the table instead",
        "criteo",
        "model_completion",
        "accuracy",
    ),
)

OPENING = """# Attacks against defenses

Made by `python -m experiments.attack_matrix --rows DIR` from `vfl sweep configs/sweep/attack_matrix.yaml --out DIR
--resume` with `VFL_DATA` set; one line a trial in `rows/attacks.jsonl`.
{done} of the {trials} trials that the sweep asks for had ended when this was written (November 2026, two shared
cores); what is missing says `not run`, and the same command goes on with it. Where the top is a sum, `mid` at the top
has no layer to act on: those trials are refused, and stay so.

`vanilla` on the in-process grid, Adam 1e-3; adult: 6,600 aligned training rows, 3 epochs of batches of 256; criteo:
the first 10,000 rows of the Kaggle file, 3 epochs of 256; digits: halves of the 1,797 pictures, 15 epochs of 64. Each
attack is shown by its headline figure, mean over seeds with a 95 % t-interval (with two or three seeds it is wide;
one seed has none): `sign_free` is the leak AUC whichever way round, since a defense that only flips the score has
hidden nothing, and its chance lies above .5 (the signed `leak_auc`, by the attacker's own orientation, is in the
rows); `nmse` is squared error over the column's variance (1 is guessing the mean, less is leakage). The line `chance`
is a guess at random, `prior only` what ignoring the wire gives, `upper` the same head told all answers, or the better
sign where an attack takes no hints. Attacks that fit (exploit, completion, decoders) run fewer steps than their
defaults. `T-DCS` is the mean over a table's attacks of VFLAIR's defense score (1 where nothing leaks and nothing is
lost, .586 where everything leaks), of 2 AUC - 1 for two classes, accuracy for more, 1 - nmse for columns; it blames a
defense for what chance reaches. One setting of each defense, none tuned: a row says what that setting does, and no
row says that a mechanism is good or bad."""

COMBINED = """## Defense scores over all tables

VFLAIR's T-DCS by what is attacked, over every trial above, and their mean, C-DCS. A type that no trial of a defense
has been run for is left out of it, so compare rows that have the same columns filled."""

CLOSING = """## Reading the tables

* A defense of gradients does nothing about what the embeddings themselves tell: `clustering_embeddings`, `spectral` and
  `model_completion` read no message of the advertiser.
* `model_completion` is leakage only as far as it beats its controls: the same head on an untrained network and on no
  network at all. The line `control` has the better of the two, undefended, by the signed leak AUC. On Criteo, with 40
  labels, the attack does not beat it. `spectral` and `clustering_embeddings` have the same controls where their rows
  were made since those were added; where the line has none, how much of theirs is the publisher's own columns telling
  of the label, and not a leak, the tables cannot say.
* `upper` bounds the signed leak AUC and not the `sign_free` one that is shown, and where an attack fits a head, its
  rows are those that nobody was told of: it can lie below what is shown.
* `exploit` and `spectral` find the direction of the label and often name its ends wrongly: their signed `leak_auc` in
  the rows is on either side of .5 from seed to seed. What the tables show needs one labelled row to be put to use.
* `score_leakage` is the joint model's own test metric: what any deployment that returns scores gives away.
* UnSplit's inversion (`unsplit_inversion`) is expected to fail on dense bottoms and does in the tests: inputs and
  clone fit the embeddings together and are wrong. A data set where it shone would be a reason to look for a peek.
* Rounding binds whoever is sent the scores, here a receiver that knows what the advertiser knows. The advertiser itself
  computes them, and no rounding of its own binds it: read equality solving under `rounding` as of that receiver.
* Noise on embeddings alone costs the decoder its columns; gradient noise does not, as it reads no gradient.
* Not in the matrix, to be had by name: generative regression, binary feature reconstruction, property inference,
  membership (`generative_regression`, `binary_reconstruction`, `property_inference`, `membership`), and attackers that
  know the defense (`averaging` over epochs, `embedding_extension` against distance correlation). Not on the platform:
  gradient leakage of all workers' parameter gradients (CAFE), since no party here ever sends the gradient of its
  parameters; what a publisher that is told its own parameters' gradient alone can do are `batch_inversion` and
  `residue`."""

BACKDOORS = """## Backdoors, undefended

`asr` is how often rows of other classes are given the wanted class where the publisher tampers with them, `clean
rate` how often where it does not; `cost` is how much oftener rows left alone are answered wrongly than in the same
run without the attack. Means over seeds, from the same rows and, for `villain`, those of
`vfl sweep configs/sweep/attack_active.yaml`."""

BACKDOOR_NOTES = """* What a replay reaches is how much of the answer the publisher's half decides, and with
  it the seed: on digits from a fifth of the rows to nearly all, on Adult a fifth, next to nothing more than the clean
  rate on Criteo.
* VILLAIN's public code has a trigger of .4 spreads, which is not told from the clean rate on any set in so few epochs;
  ten times that, as `villain_beta_4` has it, turns a part of the rows with some seeds and none with others. Its
  authors report more, on larger networks trained for longer."""

INVERSIONS = """## Attacks on columns, undefended

`nmse` is squared error over the column's variance, numeric columns alone; 1 is guessing each column's mean. Hijacking
(`fsha`) and UnSplit's inversion (`unsplit_inversion`) run 30 epochs on Adult (780 rounds) and 60 on digits (1,080), by
`configs/sweep/attack_active.yaml`. On the dense bottoms here an embedding does not say which columns it was made from,
other columns fit as well, so both are expected to come out near 1 or above: Semenov et al. report the same of dense
bottoms, and the figures of both papers are of convolutional networks on pictures. Hijacking sends no label, so the
joint model loses what the publisher would have added, and a look at the test metric shows it. `decoder`, told as many
rows, keeps to the protocol: its lines are what the same embeddings give away to it."""

COST = """## What all attacks on one run take

Adult as it is shipped (5 epochs, 31,700 training rows, `vfl simulate --backend local`), attacked afterwards from its
transcript: twelve attacks by the publisher (norm, direction, hint_norm, likelihood_ratio, spectral, exploit,
clustering, model_completion, property_inference, unsplit_label, membership, averaging) in 126 s, and four by the
advertiser (decoder, attribute_inference, model_inversion, unsplit_inversion) in 64 s: 190 s in all, against a budget of
5 minutes. The two cores were busy with other work (load above 19), so it is an upper bound. Attacks on plain sums and
linear bottoms, and those that tamper, need runs of their own and are not in it."""
