"""Whether a method keeps the contract of `methods.py`, found in seconds on three episodes of `toy/point`.

A few learners of the method are made and compared. `first` spends a whole run and acts in the middle and at the end, as
under the evaluator; `again` does the same without acting in the middle; another has another seed; two go on from what
`first` had stored. No environment of the target is open meanwhile: the pictures to act on are the dataset's.
"""
