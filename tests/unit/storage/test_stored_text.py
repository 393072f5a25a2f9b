"""What callers send is stored, whatever is in it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from modelyard.storage import Database, Message
from modelyard.storage.analytics import saving_opportunities
from modelyard.storage.tables import ordered_id
from modelyard.storage.tables.base import storable, to_json
from tests.unit.storage.usage_rows import NEW_YEAR, message_row, store, usage_row

ODD = "nul \x00, lone \ud800, whole \U0001f600, '; DROP TABLE message; --"
SEEN = "nul \ufffd, lone ?, whole \U0001f600, '; DROP TABLE message; --"


def test_texts_and_json_are_stored_in_a_form_that_reads_back(database: Database) -> None:
    row = message_row(prompt=ODD, answer=ODD, conversation=ODD, request_id=ODD, model_metadata={"why": [ODD]})
    store(database, row)
    with database.read() as session:
        found = session.scalars(select(Message)).one()
    assert (found.prompt, found.answer, found.conversation, found.request_id) == (SEEN,) * 4
    assert found.model_metadata == {"why": [SEEN]}


@pytest.mark.parametrize(
    ("value", "json"),
    [({"a": float("nan")}, '{"a":null}'), ("\x00", r'"\ufffd"'), ("\\u0000", r'"\\u0000"'), ("\\\x00", r'"\\\ufffd"'),
     ({1: "\ud800"}, '{"1": "?"}')],
)  # fmt: skip
def test_json_can_be_read_in(value, json: str) -> None:
    assert to_json(value) == json


def test_plain_text_stays_as_it_is() -> None:
    for plain in ("", "plain", "naïve \u2192 \U0001f600"):
        assert storable(plain) is plain or storable(plain) == plain


def test_older_metadata_that_cannot_be_read_in_does_not_stop_the_search_for_savings(database: Database) -> None:
    weighed = [{"model": "md", "quality": 0.8, "cost_usd": 0.04}, {"model": "sm", "quality": 0.8, "cost_usd": 0.01}]
    for number in range(2):
        message = message_row(id=f"m{number}", model_metadata={"notices": [], "route": {"candidates": weighed}})
        store(database, message, usage_row(message_id=message.id))
    with database.write() as session:
        session.execute(
            text(r"""UPDATE message SET model_metadata = '{"notices": ["\u0000"], "route": {}}' WHERE id = 'm1'""")
        )
    (found,) = saving_opportunities(database, NEW_YEAR, until=NEW_YEAR + timedelta(days=1))
    assert found.share == 0.5


def test_ids_sort_by_the_time_they_were_made() -> None:
    first = ordered_id()
    assert len(first) == 26
    assert first[0] in "01234567"
    assert len({ordered_id() for _ in range(1000)}) == 1000
    assert first[:10] <= ordered_id()[:10]
