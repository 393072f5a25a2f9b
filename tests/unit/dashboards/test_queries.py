import pytest

from dashboards.queries import served_costs
from modelyard.settings import Settings
from modelyard.storage import Database
from tests.unit.dashboards.sample import serve_answers


def test_looking_at_an_empty_home_makes_no_database(settings: Settings):
    assert served_costs(settings) == ()
    assert not settings.home.exists()


def test_database_that_was_never_migrated_has_served_nothing(settings: Settings):
    database = Database(settings.database)
    assert database.revision() is None
    database.close()

    assert served_costs(settings) == ()


def test_served_costs_add_up_by_model_dearest_first(settings: Settings):
    serve_answers(settings, ("local-sm", 0.001, 10.0), ("local-md", 0.004, 40.0), ("local-sm", 0.002, 30.0))

    dear, cheap = served_costs(settings)

    assert (dear.model, dear.requests, dear.cost_usd) == ("local-md", 1, 0.004)
    assert (cheap.model, cheap.requests, cheap.prompt_tokens, cheap.completion_tokens) == ("local-sm", 2, 200, 40)
    assert cheap.cost_usd == pytest.approx(0.003)
    assert cheap.p50_ms == pytest.approx(20.0)
