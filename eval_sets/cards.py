"""The figures on a set's card: worked out from the data and written between markers, so that a card cannot say what the data does not.

A card has `<!-- figures -->` … `<!-- /figures -->` for counts and version, and, where prompts were labelled twice, `<!-- agreement -->` …
`<!-- /agreement -->`. What stands between them is replaced when the set is sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from eval_sets.agreement import LABELS, SEED, Agreement, agreements, load_second_labels
from eval_sets.loading import TASKS, documents_version, read_documents, read_tasks
from eval_sets.records import COMPLEXITIES, Document, TaskSet
from eval_sets.tally import document_counts, tally, task_counts
from modelyard.errors import InvalidEvalSet

CARD: Final = "card.md"
SECOND_LABELS: Final = "second_labels.jsonl"
PENDING: Final = "No prompt of this set has been labelled a second time yet."


def refresh(folder: Path) -> None:
    """Write the figures of a folder's data between the markers of its card; a card without markers stays as it is.

    Raises:
        InvalidEvalSet: A marker is not closed, or the set breaks a rule.
    """
    path = folder / CARD
    text = path.read_text("utf-8")
    new = text
    for name, block in blocks(folder).items():
        new = _replaced(new, name, block, path)
    if new != text:
        path.write_text(new, "utf-8")


def blocks(folder: Path) -> Mapping[str, str]:
    """Return what belongs between the markers of a folder's card, by the marker's name."""
    if not (folder / TASKS).exists():
        return {"figures": document_figures(read_documents(folder))}
    tasks = read_tasks(folder)
    path = folder / SECOND_LABELS
    found = agreements(tasks.rows, load_second_labels(path)) if path.exists() else None
    return {"figures": task_figures(tasks), "agreement": agreement_figures(found) if found else PENDING}


def task_figures(tasks: TaskSet) -> str:
    """Return the counts of labelled prompts as markdown."""
    counts = task_counts(tasks)
    lengths = sorted(len(row.prompt) for row in tasks)
    documents = {name for row in tasks for fact in row.facts for name in fact.docs}
    with_documents = sum(any(fact.docs for fact in row.facts) for row in tasks)
    rows = [
        ("prompts", f"{counts['prompts']}"),
        ("with checkable answers (facts)", f"{counts['checkable']}"),
        ("with facts that documents hold", f"{with_documents}, in {len(documents)} documents"),
        ("facts", f"{counts['facts']}"),
        ("length in characters", f"{lengths[0]} to {lengths[-1]:,}, median {lengths[len(lengths) // 2]}"),
        ("languages", _listed(tally(row.language for row in tasks))),
        ("styles (a prompt may have several)", _listed(tally(style for row in tasks for style in row.style))),
        ("version (SHA-256 of the content)", f"`{tasks.version}`"),
    ]
    header = f"| domain | {' | '.join(COMPLEXITIES)} | checkable |\n| --- | {' | '.join(['--:'] * (len(COMPLEXITIES) + 1))} |"
    strata = tally(f"{row.domain}/{row.complexity}" for row in tasks)
    checkable = tally(row.domain for row in tasks.checkable)
    lines = [
        f"| {domain} | {' | '.join(str(strata.get(f'{domain}/{level}', 0)) for level in COMPLEXITIES)} | {checkable.get(domain, 0)} |"
        for domain in tally(row.domain for row in tasks)
    ]
    return "\n".join([_table(rows), "", header, *lines])


def document_figures(documents: tuple[Document, ...]) -> str:
    """Return the counts of documents as markdown."""
    counts = document_counts(documents)
    lengths = sorted(len(document.text.split()) for document in documents)
    rows = [
        ("documents", f"{counts['documents']}"),
        ("words", f"{counts['words']:,}; {lengths[0]} to {lengths[-1]} a document"),
        ("topics", _listed(tally(document.topic for document in documents))),
        ("kinds", _listed(tally(document.kind for document in documents))),
        ("version (SHA-256 of the content)", f"`{documents_version(documents)}`"),
    ]
    return _table(rows)


def agreement_figures(found: Mapping[str, Agreement]) -> str:
    """Return the agreement of two people as markdown."""
    lines = ["| label | prompts | equal labels | Cohen's kappa | 95 % interval |", "| --- | --: | --: | --: | --- |"]
    for name in LABELS:
        each = found[name]
        kappa, interval = "undefined", "–"
        if each.kappa is not None and each.ci95 is not None:
            kappa, interval = f"{each.kappa:.3f}", f"{each.ci95[0]:.3f} to {each.ci95[1]:.3f}"
        lines.append(f"| {name} | {each.n} | {each.observed:.1%} | {kappa} | {interval} |")
    return "\n".join([*lines, "", f"Intervals: percentile bootstrap over prompts, seed {SEED}."])


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _replaced(text: str, name: str, block: str, path: Path) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        return text
    head, _, rest = text.partition(begin)
    if end not in rest:
        raise InvalidEvalSet(f"{path} opens {begin} and does not close it with {end}.")
    return f"{head}{begin}\n\n{block}\n\n{end}{rest.partition(end)[2]}"
