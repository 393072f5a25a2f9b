"""How we decide: offline replay, comparison, tuning, verdicts, tracking."""
