"""What keeps serving in hand: keys, limits, caches, flags, alerts."""
