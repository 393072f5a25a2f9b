from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"


def test_lock_holds_versions_and_hashes_and_no_addresses():
    text = LOCK.read_text()

    assert "://" not in text
    blocks = text.replace("\\\n", "").splitlines()
    assert all("==" in block and "--hash=sha256:" in block for block in blocks if block.strip())
