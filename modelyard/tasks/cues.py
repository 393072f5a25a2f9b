"""Words and phrases that say what is wanted, whatever the subject: constraints, a design, something small, something built, a cause.

A cue counts wherever a regular expression `\\b(?:cue|cue|…)\\b` would find it, upper and lower case alike. One such expression a kind would
read the text six times; here single words are told one by one, so that what is known of a word can be remembered, and a phrase is searched
for only where its start stands at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class _Cues(NamedTuple):
    words: str  # whole words
    phrases: Mapping[str, str]  # how a phrase or a longer word starts -> pattern of how it goes on


_KINDS: Final[Mapping[str, _Cues]] = {
    "constraints": _Cues(
        "must should without only never cannot avoid ensure require requires required support",
        {"need": "(?:s|ed)? to", "have to": "", "at least": "", "at most": "", "no more than": "", "can't": ""},
    ),
    "design": _Cues(
        "design strategy compare scale scaling scalable plan roadmap system review production robust comprehensive detailed versus vs",
        {
            "architect": r"\w*",
            "trade": "-?offs?",
            "migrat": r"\w+",
            "end": ".to.end",
            "multi": r"\w*",
            "pros and cons": "",
            "from scratch": "",
            "step by step": "",
            "explain ": "(?:why|how)",
        },
    ),
    "small": _Cues(
        "which when who where quick just simple default meaning mean syntax difference short tldr",
        {"what": "(?:'s| is| does| are)", "how ": "(?:many|much|old|long|do i)", "name of": "", "one": ".?liner"},
    ),
    "build": _Cues(
        "write build create implement make add convert refactor rewrite generate setup help", {"set up": ""}
    ),
    "why": _Cues(
        "why wrong broken fail fails failing doesnt error bug undefined stuck weird",
        {"not working": "", "doesn't work": "", "crash": r"\w*"},
    ),
    "joins": _Cues("and plus also then", {"as well as": ""}),
}

_KIND_OF: Final[Mapping[str, str]] = {word: kind for kind, cues in _KINDS.items() for word in cues.words.split()}
# The start comes first, and only then that no word reaches into it: what starts with letters is searched for much faster.
_PHRASES: Final = tuple(
    (kind, start, re.compile(rf"{start}(?<!\w{start}){rest}\b"))
    for kind, cues in _KINDS.items()
    for start, rest in cues.phrases.items()
)
_WORD: Final = re.compile(r"\w+")
# The only letters beyond ASCII that `re.IGNORECASE` takes for ASCII ones, except the Kelvin sign, whose lower case is k.
_ALIKE: Final = str.maketrans({"ı": "i", "İ": "i", "ſ": "s"})


def word_cues(word: str) -> tuple[str, ...]:
    """Return the kind of each cue that is a word of its own, in a piece of text without spaces."""
    return tuple(_KIND_OF[part] for part in _WORD.findall(_folded(word)) if part in _KIND_OF)


def phrase_cues(text: str) -> list[str]:
    """Return the kind of each cue of several words, or of a word that starts like it; commas and semicolons join."""
    text = _folded(text)
    found = ["joins"] * (text.count(",") + text.count(";"))
    for kind, phrase in [(kind, phrase) for kind, start, phrase in _PHRASES if start in text]:
        found += [kind] * len(phrase.findall(text))
    return found


def _folded(text: str) -> str:
    return (text if text.isascii() else text.translate(_ALIKE)).lower()
