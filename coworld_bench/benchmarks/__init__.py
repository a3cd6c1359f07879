"""What `coworld-bench bench` measures: each part of the project beside what users have today."""
