"""The tables of a report: a file for each kind, with functions from a selection to a `Table`, or to None where there is
nothing to put in it."""
