"""Which saved model serves: MLflow aliases, hashes, verdicts, the gate, and the history of every move.

`champions` is what serving imports; it needs neither MLflow nor the database.
"""
