"""The durable store of passages: Chroma, in process, one collection for each version of the index.

The collection holds text, place and embedding of every passage; the matrix that is searched is derived from the same index. Vectors are
always given, never made by Chroma. A collection names the embedder's fingerprint; one that was left half-written is written anew.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from modelyard.errors import CorruptModel
from modelyard.retrieval.index import Index
from modelyard.settings import Settings, switch_telemetry_off

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

BATCH: Final = 5_000  # Chroma takes at most 5,461 records at a time
PREFIX: Final = "passages-"


class PassageStore:
    """The passages in `settings.home / "chroma"`; close it, or use it in a `with` statement. One writer at a time."""

    def __init__(self, settings: Settings) -> None:
        switch_telemetry_off()
        import chromadb
        from chromadb.config import Settings as ChromaSettings

        folder = settings.home / "chroma"
        folder.mkdir(parents=True, exist_ok=True)
        self._client = cast(
            "Client", chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))
        )

    def __enter__(self) -> PassageStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._client.close()

    def versions(self) -> tuple[str, ...]:
        """Return the versions that are stored."""
        names = (collection.name for collection in self._client.list_collections())
        return tuple(sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)))

    def write(self, index: Index) -> int:
        """Store the passages of an index, unless they are there; return how many are stored.

        Raises:
            CorruptModel: Chroma holds another number of passages after writing.
        """
        if self.holds(index):
            return len(index)
        name = PREFIX + index.version
        if index.version in self.versions():
            self._client.delete_collection(name)
        collection = self._client.create_collection(
            name,
            embedding_function=None,
            metadata={"version": index.version, "embedder": index.lsa.fingerprint, "passages": len(index)},
        )
        for start in range(0, len(index), BATCH):
            _add(collection, index, range(start, min(start + BATCH, len(index))))
        if collection.count() != len(index):
            raise CorruptModel(
                f"Chroma holds {collection.count()} passages of the index {index.version}, not {len(index)}."
            )
        return len(index)

    def holds(self, index: Index) -> bool:
        """Return whether every passage of the index is stored, with embeddings of the same space."""
        if index.version not in self.versions():
            return False
        collection = self._client.get_collection(PREFIX + index.version, embedding_function=None)
        embedder = (collection.metadata or {}).get("embedder")
        return embedder == index.lsa.fingerprint and collection.count() == len(index)

    def delete(self, version: str) -> None:
        """Remove a version's passages; nothing where there are none."""
        if version in self.versions():
            self._client.delete_collection(PREFIX + version)


def _add(collection: Collection, index: Index, numbers: range) -> None:
    passages = [index.passage(number) for number in numbers]
    metadatas: list[Any] = [
        {"document": passage.document, "title": passage.title, "start": passage.start, "end": passage.end}
        for passage in passages
    ]
    collection.add(
        ids=[f"{passage.document}:{passage.start}-{passage.end}" for passage in passages],
        embeddings=np.ascontiguousarray(index.vectors[numbers.start : numbers.stop]),
        documents=[passage.text for passage in passages],
        metadatas=metadatas,
    )
