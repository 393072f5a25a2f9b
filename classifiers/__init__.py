"""How task classifiers and routers are learned: candidates, calibration, cross-validation."""
