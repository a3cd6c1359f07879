"""Claims: what the paper states, tested on stored results and on its own published numbers.

    reports/claims.toml -> statements.py, kinds.py -> judged.py -> page.py
                           judging.py by numbers.py, contrasts.py and verdicts.py

Measured. Seeds are the unit of replication. A comparison holds where Welch's 95 % interval of the difference of the two
means over seeds lies on the claimed side of 0, is contradicted where it lies on the other side, and is undecided otherwise.
So is one that lacks something, which is then named: fewer than two finished seeds, a failed seed (what fails does not fail
at random), a method that was not run, methods that learnt from different datasets, times of different devices. Cells where
one constant action reaches half of the reference return (‡) carry no claim on returns or values: they stay undecided, and
with them every average over them.

Published. The paper's means decide: `holds` or `contradicted`. `(means only)` follows where the same interval, with ± read
as the std over the paper's three seeds, does not agree, or where no ± is printed (what ± is over the paper does not say).
What exists only as a picture is undecided.

Both. A statement on k of n cells holds once k of them hold, and is contradicted once fewer than k can: one cell contradicts
"on all six". Every comparison is made at 5 %, uncorrected: a statement of many can be contradicted by chance, and holds by
chance hardly ever. A rank r holds where exactly r - 1 rivals are above and all others below. An average is the mean of the
cells' means; its interval is Welch's for that combination.

A stated gain: measured, it is contradicted where the gain is smaller than stated, and holds where it is not and the method
is above; published, the cells must give the stated figure to its last digit. A stated number: measured, within `margin` of
it (under preset paper alone, elsewhere it says nothing); published, within `tolerance`, what rounding or truncation can do.
Comparable: the difference lies within `margin` of the other's mean. A gap, the predicted less the realised value, is over
0, under it, or close to it, within a share of the mean realised value. A chosen source: nearest in most updates of every
seed, or of none.
"""

from __future__ import annotations

from coworld_bench.reporting.claims.judged import Judged, judge_claims, judge_stored, usual_preset
from coworld_bench.reporting.claims.page import claims_page, claims_table, rendered
from coworld_bench.reporting.claims.statements import Claim, read_claims

__all__ = [
    "Claim", "Judged", "claims_page", "claims_table", "judge_claims", "judge_stored", "read_claims", "rendered",
    "usual_preset",
]  # fmt: skip
