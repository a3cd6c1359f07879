"""A plan, turned into runs, done by an executor, stored as results."""
