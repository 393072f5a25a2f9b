"""Made-up labelled prompts, forty of each of two domains."""

from __future__ import annotations

CSS = ("centre a div", "a grid with two columns", "the flexbox gap", "a sticky header", "the z-index of a modal")
DATA = ("fetch json", "an sql index", "the api response", "a database migration", "retry a failed request")
FRAMES = ("how do I make {}", "what is {}", "why is {} broken", "quick: {}", "{} please", "explain {}", "{}?", "fix {}")

TEXTS = [frame.format(subject) for subjects in (CSS, DATA) for subject in subjects for frame in FRAMES]
LABELS = {
    "domain": ["css"] * 40 + ["data"] * 40,
    "complexity": ["complex" if text.startswith(("explain", "why")) else "simple" for text in TEXTS],
}
