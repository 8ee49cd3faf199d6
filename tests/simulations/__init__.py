"""Studies whose truth is known: what the statistics of docs/statistics.md stand on (`python -m tests.simulations`)."""
