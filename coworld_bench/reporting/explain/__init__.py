"""`explain`: what made a number. `cells.py` finds the number, `explaining.py` gathers what is known of it, `explained.py`
prints that."""
