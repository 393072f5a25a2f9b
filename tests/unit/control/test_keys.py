from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select

from modelyard.control import key_checks
from modelyard.control.credentials import matches, new_key
from modelyard.control.keys import ANONYMOUS, SCOPES, KeyRing
from modelyard.errors import Forbidden, InvalidInput, LimitExceeded, Unauthenticated
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import ApiKey, Project
from tests.unit.control.clock import Clock

Make = Callable[..., KeyRing]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    made: list[KeyRing] = []

    def make(database: Database, **options: float) -> KeyRing:
        made.append(KeyRing(database, clock, **options))
        return made[-1]

    yield make
    for ring in made:
        ring.close()


@pytest.fixture
def ring(database: Database, make: Make) -> KeyRing:
    return make(database)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects every key that argon2 was asked about."""
    asked: list[str] = []

    def counting(key: str, stored: str) -> bool:
        asked.append(key)
        return matches(key, stored)

    monkeypatch.setattr(key_checks, "matches", counting)
    return asked


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects every prefix that was looked up in the database."""
    asked: list[str] = []
    original = key_checks.read_hash

    def counting(database: Database, prefix: str) -> str | None:
        asked.append(prefix)
        return original(database, prefix)

    monkeypatch.setattr(key_checks, "read_hash", counting)
    return asked


def broken(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE api_key RENAME TO hidden")


def mended(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO api_key")


async def refusal(ring: KeyRing, key: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await ring.authenticate(key)
    return str(caught.value)


async def test_a_key_says_who_calls_and_what_they_may(ring: KeyRing):
    made, key = ring.create("shop", "web", ["chat", "feedback"], model_types=["auto"])
    assert await ring.authenticate(key) == made
    assert (made.name, made.project_name, made.scopes) == ("web", "shop", {"chat", "feedback"})
    made.require("chat", "auto")
    with pytest.raises(Forbidden, match="the scope 'admin'"):
        made.require("admin")
    with pytest.raises(Forbidden, match="does not allow the model 'lg'"):
        made.require("chat", "lg")


async def test_keys_of_a_project_share_it_by_name_and_by_id(ring: KeyRing):
    one, _ = ring.create("shop", "a", ["chat"])
    two, _ = ring.create("shop", "b", ["chat"])
    three, _ = ring.create(one.project or "", "c", ["chat"])
    assert one.project == two.project == three.project
    assert one.key_id != two.key_id
    ring.create("other", "d", ["admin"])
    assert [facts.name for facts in ring.list("shop")] == ["a", "b", "c"]
    assert [facts.name for facts in ring.list()] == ["a", "b", "c", "d"]


async def test_neither_the_key_nor_its_secret_is_stored_or_shown(ring: KeyRing, database: Database):
    made, key = ring.create("shop", "web", ["chat"])
    with database.read() as session:
        row = session.scalars(select(ApiKey)).one()
        held = " ".join(str(getattr(row, column.key)) for column in ApiKey.__table__.columns)
    for text in (held, repr(made), repr(ring.list())):
        assert key not in text
        assert key[12:] not in text


async def test_argon2_is_asked_once(ring: KeyRing, looked: list[str], clock: Clock):
    _, key = ring.create("shop", "web", ["chat"])
    await asyncio.gather(*(ring.authenticate(key) for _ in range(50)))
    for _ in range(3):
        clock.now += 61
        await ring.authenticate(key)
    assert looked == [key]


async def test_every_wrong_key_is_refused_alike(ring: KeyRing, looked: list[str]):
    _, key = ring.create("shop", "web", ["chat"])
    wrong_secret = key[:-1] + ("a" if key[-1] != "a" else "b")
    said = {await refusal(ring, text) for text in (wrong_secret, new_key(), "", "nonsense", key + "\n", key.upper())}
    assert said == {"The API key is not valid."}
    assert looked == []


async def test_a_wrong_key_is_looked_up_once(ring: KeyRing, reads: list[str], clock: Clock):
    wrong = new_key()
    for _ in range(5):
        await refusal(ring, wrong)
    assert reads == [wrong[3:11]]
    clock.now += 61
    await refusal(ring, wrong)
    assert len(reads) == 2


async def test_a_key_made_elsewhere_works_at_once(database: Database, make: Make):
    here, there = make(database), make(database)
    made, key = there.create("shop", "web", ["chat"])
    assert await here.authenticate(key) == made


async def test_a_revocation_works_at_once_here_and_within_the_ttl_elsewhere(
    database: Database, make: Make, clock: Clock
):
    here, there = make(database), make(database)
    made, key = here.create("shop", "web", ["chat"])
    await here.authenticate(key)
    await there.authenticate(key)
    here.revoke(made.key_id or "")
    assert "was revoked on 2027-01-15" in await refusal(here, key)
    await there.authenticate(key)
    clock.now += 60
    assert "was revoked" in await refusal(there, key)
    here.revoke(key[3:11])  # by prefix; nothing changes


async def test_a_revocation_is_not_undone_by_a_look_that_began_before(
    sqlite: Database, make: Make, monkeypatch: pytest.MonkeyPatch
):
    ring = make(sqlite)
    made, key = ring.create("shop", "web", ["chat"])
    original, revoked = key_checks.read_key, list[str]()

    def racing(database: Database, prefix: str) -> object:
        found = original(database, prefix)
        if not revoked:
            revoked.append(prefix)
            ring.revoke(made.key_id or "")
        return found

    monkeypatch.setattr(key_checks, "read_key", racing)
    assert "was revoked" in await refusal(ring, key)


async def test_a_key_ends_when_it_expires(ring: KeyRing, clock: Clock):
    ends = datetime.fromtimestamp(clock.now, UTC) + timedelta(seconds=30)
    _, key = ring.create("shop", "web", ["chat"], expires_at=ends)
    await ring.authenticate(key)
    clock.now += 30  # within the TTL
    assert "expired on 2027-01-15 08:00 UTC" in await refusal(ring, key)
    clock.now += 60
    assert "expired" in await refusal(ring, key)


async def test_rotation_keeps_the_id_and_the_old_secret_for_the_grace(database: Database, make: Make, clock: Clock):
    here, there = make(database), make(database)
    made, old = here.create("shop", "web", ["chat"], model_types=["auto"])
    await there.authenticate(old)
    again, new = here.rotate(made.key_id or "", grace_s=600)
    assert again == made
    for ring in (here, there):
        assert await ring.authenticate(new) == made
        assert await ring.authenticate(old) == made
    clock.now += 600
    for ring in (here, there):
        assert "expired" in await refusal(ring, old)
        assert await ring.authenticate(new) == made
    current, former = sorted(here.list(), key=lambda facts: facts.replaced_by is not None)
    assert (current.id, former.replaced_by) == (made.key_id, made.key_id)


async def test_rotation_without_grace_ends_the_old_secret_at_once(ring: KeyRing):
    made, old = ring.create("shop", "web", ["chat"])
    await ring.authenticate(old)
    _, new = ring.rotate(old[3:11])
    assert "was revoked" in await refusal(ring, old)
    assert await ring.authenticate(new) == made


async def test_revoking_a_rotated_key_ends_the_secret_in_its_grace(ring: KeyRing):
    made, old = ring.create("shop", "web", ["chat"])
    _, new = ring.rotate(made.key_id or "", grace_s=600)
    await ring.authenticate(old)
    ring.revoke(made.key_id or "")
    assert "was revoked" in await refusal(ring, old)
    assert "was revoked" in await refusal(ring, new)


async def test_rotation_renews_a_limited_life_and_no_more(ring: KeyRing, clock: Clock):
    ends = datetime.fromtimestamp(clock.now, UTC) + timedelta(days=10)
    made, _ = ring.create("shop", "web", ["chat"], expires_at=ends)
    clock.now += 86_400
    ring.rotate(made.key_id or "", grace_s=86_400 * 30)
    current, former = sorted(ring.list(), key=lambda facts: facts.replaced_by is not None)
    assert current.expires_at == ends + timedelta(days=1)
    assert former.expires_at == ends
    with pytest.raises(InvalidInput, match="has ended and cannot be rotated"):
        ring.rotate(former.id)
    clock.now += 86_400 * 60
    with pytest.raises(InvalidInput, match="has ended and cannot be rotated"):
        ring.rotate(made.key_id or "")


async def test_deleting_a_project_ends_its_keys(ring: KeyRing, database: Database):
    made, key = ring.create("shop", "web", ["chat"])
    await ring.authenticate(key)
    with database.write() as session:
        session.execute(delete(Project).where(Project.id == made.project))
    ring.forget()
    assert await refusal(ring, key) == "The API key is not valid."


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", "a\r\nSet-Cookie: x", "a\x00", "\x1b[31m", "a\u202eb"])
def test_names_must_print(sqlite: Database, make: Make, name: str):
    ring = make(sqlite)
    for project, key, types in ((name, "web", None), ("shop", name, None), ("shop", "web", [name])):
        with pytest.raises(InvalidInput, match="1 to 200 printable characters"):
            ring.create(project, key, ["chat"], model_types=types)
    assert ring.list() == ()


@pytest.mark.parametrize("scopes", [[], ["everything"], ["chat", "root"]])
def test_scopes_must_be_known(sqlite: Database, make: Make, scopes: list[str]):
    with pytest.raises(InvalidInput, match="scopes must be some of chat"):
        make(sqlite).create("shop", "web", scopes)


def test_an_expiry_lies_in_the_future(sqlite: Database, make: Make):
    with pytest.raises(InvalidInput, match="must expire in the future"):
        make(sqlite).create("shop", "web", ["chat"], expires_at=datetime(2020, 1, 1, tzinfo=UTC))


def test_what_is_not_there_cannot_be_revoked_or_rotated(ring: KeyRing):
    injected = "' OR 1=1 --"
    with pytest.raises(InvalidInput, match="no API key"):
        ring.revoke(injected)
    with pytest.raises(InvalidInput, match="no API key"):
        ring.rotate(injected)
    with pytest.raises(InvalidInput, match="within 0 and"):
        ring.rotate("x", grace_s=-1)


def test_the_anonymous_caller_has_every_scope_and_no_key():
    assert ANONYMOUS.scopes == set(SCOPES)
    assert (ANONYMOUS.key_id, ANONYMOUS.project) == (None, None)


async def test_proven_keys_survive_a_database_that_is_gone_and_it_is_told(database: Database, make: Make, clock: Clock):
    ring = make(database)
    made, key = ring.create("shop", "web", ["chat"])
    _, unseen = ring.create("shop", "cli", ["chat"])
    await ring.authenticate(key)
    broken(database)
    clock.now += 100
    assert await ring.authenticate(key) == made
    assert ring.problem is not None
    assert ring.problem.startswith("API keys are not read again")
    assert await ring.authenticate(key) == made
    with pytest.raises(StorageError):
        await ring.authenticate(unseen)
    clock.now += 260
    with pytest.raises(StorageError):
        await ring.authenticate(key)
    mended(database)
    assert await ring.authenticate(key) == made
    assert await ring.authenticate(unseen)
    assert ring.problem is None


async def test_what_was_revoked_stays_out_when_the_database_goes(sqlite: Database, make: Make):
    ring = make(sqlite)
    made, key = ring.create("shop", "web", ["chat"])
    await ring.authenticate(key)
    ring.revoke(made.key_id or "")
    broken(sqlite)
    with pytest.raises(StorageError):
        await ring.authenticate(key)


async def test_a_clock_set_back_does_not_lengthen_a_life(sqlite: Database, make: Make, clock: Clock):
    here, there = make(sqlite), make(sqlite)
    made, key = here.create("shop", "web", ["chat"])
    await here.authenticate(key)
    there.revoke(made.key_id or "")
    clock.now -= 3_600
    assert "was revoked" in await refusal(here, key)


async def test_a_flood_of_wrong_keys_asks_argon2_nothing_and_spares_those_known(
    sqlite: Database, make: Make, looked: list[str]
):
    ring = make(sqlite)
    made, key = ring.create("shop", "web", ["chat"])
    await ring.authenticate(key)
    flood = [new_key() for _ in range(500)] + [f"{key[:12]}{new_key()[12:]}" for _ in range(500)]
    outcomes = asyncio.gather(*(ring.authenticate(wrong) for wrong in flood), return_exceptions=True)
    await asyncio.sleep(0)
    assert 0 < ring.stats().waiting <= key_checks.WAITING
    assert await ring.authenticate(key) == made
    kinds = {type(outcome) for outcome in await outcomes}
    assert kinds == {Unauthenticated, LimitExceeded}
    assert looked == [key]
    stats = ring.stats()
    assert stats.waiting == 0
    assert stats.refused + stats.shed == len(flood)


async def test_a_slow_flood_is_bounded_in_its_rate(sqlite: Database, make: Make, looked: list[str], clock: Clock):
    ring = make(sqlite)
    made, key = ring.create("shop", "web", ["chat"])
    for _ in range(key_checks.LOOKS_A_SECOND):
        await refusal(ring, new_key())
    with pytest.raises(LimitExceeded, match="Too many unknown API keys") as caught:
        await ring.authenticate(key)
    assert (caught.value.kind, caught.value.retry_after_s) == ("capacity", 1.0)
    clock.now += 1
    assert await ring.authenticate(key) == made
    assert looked == [key]


async def test_caches_do_not_grow_without_bound(sqlite: Database, make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_checks, "WRONG", 10)
    monkeypatch.setattr(key_checks, "PROVEN", 2)
    ring = make(sqlite)
    for _ in range(30):
        await refusal(ring, new_key())
    for number in range(4):
        await ring.authenticate(ring.create("shop", str(number), ["chat"])[1])
    assert ring.stats().proven == 2


async def test_a_caller_who_goes_away_does_not_stop_the_look_for_others(sqlite: Database, make: Make):
    ring = make(sqlite)
    made, key = ring.create("shop", "web", ["chat"])
    first, second = (asyncio.ensure_future(ring.authenticate(key)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == made
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_the_last_use_is_stored_by_a_job(database: Database, make: Make, clock: Clock):
    ring = make(database)
    _, key = ring.create("shop", "web", ["chat"])
    await ring.authenticate(key)
    assert ring.save_last_used() == 1
    assert ring.save_last_used() == 0
    (facts,) = ring.list()
    assert facts.last_used_at == datetime.fromtimestamp(clock.now, UTC)
    clock.now += 90
    await ring.authenticate(key)
    broken(database)
    with pytest.raises(StorageError):
        ring.save_last_used()
    mended(database)
    assert ring.save_last_used() == 1


async def test_no_key_is_logged(sqlite: Database, make: Make, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        ring = make(sqlite)
        _, key = ring.create("shop", "web", ["chat"])
        wrong = new_key()
        await ring.authenticate(key)
        await refusal(ring, wrong)
        broken(sqlite)
        with pytest.raises(StorageError) as caught:
            await ring.authenticate(new_key())
    for secret in (key[12:], wrong[12:]):
        assert secret not in caplog.text
        assert secret not in str(caught.value)
