"""Labelled prompts and the documents that answer them: reading, checking, splitting. One folder a set, one card a folder."""

from eval_sets.loading import check_facts, load_documents, load_tasks
from eval_sets.records import COMPLEXITIES, Document, Fact, TaskRow, TaskSet
from eval_sets.sealing import seal, verify
from eval_sets.similarity import Pair, near_duplicates
from eval_sets.splits import split

__all__ = [
    "COMPLEXITIES",
    "Document",
    "Fact",
    "Pair",
    "TaskRow",
    "TaskSet",
    "check_facts",
    "load_documents",
    "load_tasks",
    "near_duplicates",
    "seal",
    "split",
    "verify",
]
