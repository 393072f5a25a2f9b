"""Does a task keep its domain through a conversation, and change it with the subject? `python benchmarks/conversations.py`.

Conversations are made of prompts of the eval set and follow-ups of everyday talk. Half of the prompts train the learned classifier, the
other half begin conversations or change their subject; neither classifier has seen those. `TRIED` follow-ups were looked at while the
reading was designed; `NEW` ones were written down before it was finished, and only counted. Every answer in between is the same text
about something else.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifiers.encoding import EncoderParams
from classifiers.tasks import TaskParams, cross_validate, train
from eval_sets import load_tasks
from eval_sets.records import TaskRow
from eval_sets.splits import split
from modelyard.tasks import Classifier, RuleClassifier
from modelyard.types import Message, Turn

TASKS = Path(__file__).parents[1] / "eval_sets" / "web_tasks"
ANSWER = Turn(
    "assistant", "Sure. Here is a query with an index on the date column:\n\n```sql\nSELECT 1\n```\n\nDoes this help?"
)

TRIED = (
    "thanks", "ok thanks, go on", "go on", "continue please", "and in TypeScript?", "it still fails", "why?",
    "that doesn't work, same error", "can you make it shorter?", "now with tests", "what about dark mode?",
    "could you explain the second part again", "hmm, are you sure?", "yes please", "no, the other one",
    "danke, weiter", "gracias, sigue", "et en TypeScript ?",
    "perfect, thank you so much!", "keep going", "and for Vue?", "still not working", "how come?", "nope, didn't help",
    "rewrite that without the library", "also add a loading state", "what does the last line do?", "is that safe in production?",
    "do the same for the other form", "sorry, I meant the first one", "ok", "great, next step?", "und auf Deutsch?",
    "no funciona", "merci, continue", "ありがとう、続けて", "why did you use a map there", "can you show the full file?",
    "does it also work in Safari?", "I get the same result as before", "make the second one async", "shorter",
)  # fmt: skip
NEW = (
    "cool, works now", "that was quick, thanks", "explain line 3", "what do you mean by that?", "shorter and friendlier please",
    "I don't understand the middle part", "use hooks instead of classes", "could we do without useEffect?", "put it all in one file",
    "is there a simpler way?", "any downsides?", "what would you recommend?", "give me an example", "same but for tablets",
    "no wait, undo the last change", "ich verstehe das nicht", "puedes explicarlo mejor?", "pourquoi ?", "il y a une erreur",
    "もう一度お願いします", "and the tests?", "ts version?", "it throws on line 12 now", "hm, that gives me undefined",
    "where does this go?", "which one is faster?", "ok but why not the other way round?", "add comments", "translate to French",
    "one more thing: make it accessible",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A conversation and the domain that its last turn is about; `alone` is that prompt by itself, which no reading can beat."""

    kind: str
    message: Message
    domain: str
    alone: Message


def conversation(*texts: str) -> Message:
    """Return a conversation of user turns with an answer after each but the last."""
    turns = [Turn("user", texts[0])]
    for text in texts[1:]:
        turns += [ANSWER, Turn("user", text)]
    return Message(tuple(turns))


def cases(rows: Sequence[TaskRow], seed: int = 0) -> Iterable[Case]:
    """Yield conversations: a follow-up of each kind, two in a row, a change of subject, and a follow-up after one."""
    source = random.Random(seed)
    for row in rows:
        other = source.choice([some for some in rows if some.domain != row.domain])
        tried, new, again = source.choice(TRIED), source.choice(NEW), source.choice(NEW)
        first, second = Message.of(row.prompt), Message.of(other.prompt)
        yield Case("follow-up (tried)", conversation(row.prompt, tried), row.domain, first)
        yield Case("follow-up (new)", conversation(row.prompt, new), row.domain, first)
        yield Case("two follow-ups (new)", conversation(row.prompt, new, again), row.domain, first)
        yield Case("change of subject", conversation(row.prompt, other.prompt), other.domain, second)
        yield Case("change, follow-up (new)", conversation(row.prompt, other.prompt, new), other.domain, second)


def last_line(message: Message) -> Message:
    """Return the last user turn alone, which is what was read before."""
    return Message.of(message.prompt)


READINGS: dict[str, Callable[[Case], Message]] = {
    "last line": lambda case: last_line(case.message),
    "conversation": lambda case: case.message,
    "its own prompt alone": lambda case: case.alone,
}


def shares(classifier: Classifier, found: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Return, a kind of conversation and reading, the share whose domain is the labelled one."""
    kinds = dict.fromkeys(case.kind for case in found)
    return {
        kind: {
            name: sum(classifier.classify(read(case)).domain == case.domain for case in found if case.kind == kind)
            / sum(case.kind == kind for case in found)
            for name, read in READINGS.items()
        }
        for kind in kinds
    }


def learned(rows: Sequence[TaskRow]) -> Classifier:
    """Train on these rows."""
    texts, labels = [row.prompt for row in rows], {"domain": [row.domain for row in rows]}
    params = TaskParams(kind="blend", encoder=EncoderParams(chars=(2, 5)))
    return train(texts, params, cross_validate(texts, labels, params, folds=2))


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    halves = split(load_tasks(TASKS).rows, {"train": 0.5, "test": 0.5}, seed=0)
    found = [*cases(halves["test"])]
    results = {
        name: shares(classifier, found)
        for name, classifier in (("rules", RuleClassifier()), ("learned", learned(halves["train"])))
    }
    for name, kinds in results.items():
        print(f"\n{name}, {len(halves['test'])} conversations of each kind")
        print(f"{'':<26}" + "".join(f"{reading:>22}" for reading in READINGS))
        for kind, by_reading in kinds.items():
            print(f"{kind:<26}" + "".join(f"{share:>22.3f}" for share in by_reading.values()))
    if args.json:
        args.json.write_text(json.dumps({"n": len(halves["test"]), "results": results}, indent=2))


if __name__ == "__main__":
    main()
