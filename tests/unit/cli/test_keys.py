from __future__ import annotations

import re

import pytest

from modelyard.cli.keys import LIMITS
from modelyard.control import quotas
from tests.unit.cli.conftest import Run

KEY = re.compile(r"my-([0-9A-Za-z]{8})-[0-9A-Za-z]{40}\n")


def created(run: Run, *more: str) -> tuple[str, str]:
    """Make a key and return its id and prefix."""
    result = run("keys", "create", "shop", "web", *more)
    found = KEY.fullmatch(result.out)
    told = re.search(r"the key (\w{26})\.", result.err)
    assert result.code == 0 and found and told
    return told[1], found[1]


def test_the_key_stands_alone_on_standard_output_and_is_never_shown_again(run: Run) -> None:
    key_id, prefix = created(run, "--scope", "chat", "--scope", "admin", "--model", "auto", "--expires", "90d")
    listed = run("keys", "list").out
    assert key_id in listed
    assert re.search(rf"{prefix} +shop +web +admin chat +auto +valid until ", listed)
    assert not re.search(r"my-|argon2", listed)
    assert "web" not in run("keys", "list", "--project", "other").out


def test_rotating_keeps_the_id_and_revoking_ends_it(run: Run) -> None:
    key_id, prefix = created(run)
    result = run("keys", "rotate", prefix, "--grace", "1h")
    assert KEY.fullmatch(result.out)
    assert key_id in result.err
    assert len(re.findall(" valid", run("keys", "list").out)) == 2
    assert run("keys", "revoke", key_id).code == 0
    assert len(re.findall(" revoked ", run("keys", "list").out)) == 2


def test_limits_are_set_listed_and_removed(run: Run) -> None:
    key_id, prefix = created(run)
    assert run("keys", "quota", "set", "key", prefix, "--requests-per-minute", "60", "--usd-per-day", "2.5").code == 0
    assert run("keys", "quota", "set", "model_type", "auto", "--tokens-per-minute", "1000").code == 0
    listed = run("keys", "quota", "list").out
    assert re.search(rf"key +{key_id} +60 +- +2.5 +-", listed)
    assert re.search(r"model_type +auto +- +1000 +- +-", listed)
    assert run("keys", "quota", "remove", "key", key_id).code == 0
    assert key_id not in run("keys", "quota", "list").out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("revoke", "nobody"), "There is no API key 'nobody'"),
        (("create", "shop", "a\x1b[31m"), "printable characters"),
        (("create", "shop", "web", "--expires", "soon"), "--expires must be a number with s, m, h or d"),
        (("create", "shop", "web", "--expires", "9999d"), "--expires must be"),
        (("quota", "set", "key", "nobody", "--usd-per-day", "1"), "There is no key 'nobody'."),
        (("quota", "set", "model_type", "auto", "--usd-per-day", "nan"), "usd_per_day must be within 0 and"),
        (("quota", "set", "model_type", "auto", "--requests-per-minute", "-1"), "requests_per_minute must be within"),
        (("quota", "set", "model_type", "auto"), "Give at least one limit"),
        (("quota", "remove", "model_type", "auto"), "The model_type 'auto' has no quota."),
    ],
)
def test_a_rule_that_is_broken_is_one_line_and_exit_2(run: Run, argv: tuple[str, ...], said: str) -> None:
    result = run("keys", *argv)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("\n") == 1


def test_every_limit_has_its_option() -> None:
    assert LIMITS == quotas.LIMITS
