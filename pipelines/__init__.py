"""Runnable jobs: `python -m pipelines <command>`."""
