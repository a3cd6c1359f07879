"""Stores as wholes: `verify` (records.py, checks.py, verifying.py) and `compare` (comparing.py, compared.py)."""
