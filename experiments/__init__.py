"""How we decide what runs: offline comparison, A/B verdicts, tuning, and their tracking in MLflow."""
