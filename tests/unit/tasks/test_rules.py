from __future__ import annotations

import time

import numpy as np
import pytest

from modelyard.embedding.tokens import tokens
from modelyard.tasks.lexicon import DOMAINS, LEXICON
from modelyard.tasks.matching import matches, weights
from modelyard.tasks.rules import RuleClassifier, keyword_scores
from modelyard.types import Message

PROMPTS = [
    ("react", "When should I split a client component out of a Next.js server component?"),
    ("react", "custom hook in React that tells me whether an element is mounted"),
    ("react", "app router: how do parallel routes and nested layouts work together"),
    ("typescript", "How do I write a discriminated union and narrow it with a type guard?"),
    ("typescript", "Argument of type 'string | undefined' is not assignable to 'string', what do I do in ts"),
    ("css", "center a div vertically with flexbox"),
    ("css", "tailwind sidebar should be sticky on desktop and collapse on small screens"),
    ("forms", "validate an email field in react-hook-form with zod before submit"),
    ("forms", "Pflichtfelder in einem Formular erst beim Absenden prüfen"),
    ("data_fetching", "usequery pagination with tanstack query and prefetching the next page"),
    ("data_fetching", "should my chat use websockets or server-sent events or polling?"),
    ("state", "redux toolkit or zustand for global state of a shopping cart?"),
    ("state", "keep my filters in the url so that they survive a refresh"),
    ("auth", "people keep getting logged out after an hour, how should refresh tokens work"),
    ("auth", "réinitialiser un mot de passe oublié avec next-auth"),
    ("databases", "postgres index for a left join on two foreign keys"),
    ("databases", "Wie benenne ich eine Spalte in der Datenbank per Migration um?"),
    ("testing", "How do I mock fetch in vitest for a component test?"),
    ("testing", "playwright e2e tests are flaky in CI"),
    ("performance", "the page jumps while loading and lighthouse complains about CLS"),
    ("performance", "our bundle size doubled, how do I lazy load the chart library"),
    ("accessibility", "screen reader does not announce the toast, which aria-live value?"),
    ("accessibility", "trap focus inside a modal for keyboard users"),
    ("deployment", "dockerfile for a node app behind nginx with env vars"),
    ("deployment", "I bought a domain name, how do I put my website online with vercel"),
    ("debugging", "Uncaught TypeError: Cannot read properties of undefined (reading 'map')"),
    ("debugging", "the button does nothing when I click it and the console shows no error"),
    ("maths", "what is 15% of 240?"),
    ("maths", "Solve the equation x^2 - 5x + 6 = 0"),
    ("maths", "求解这个方程"),
    ("data_analysis", "pandas groupby month and plot the median revenue"),
    ("data_analysis", "is a p-value of 0.04 in my A/B test statistically significant?"),
    ("writing", "Proofread this paragraph and make it sound more formal"),
    ("writing", "draft an email to my landlord about the broken heating"),
    ("writing", "Traduce este correo al inglés"),
    ("chat", "hi! how are you today?"),
    ("chat", "what should I cook for dinner with chicken and rice"),
    ("chat", "my girlfriend and I broke up and I feel lonely"),
    ("programming", "python script to rename all files in a folder"),
    ("programming", "reverse a linked list in c++"),
    ("programming", "how do I fix the borrow checker complaining about lifetimes in rust"),
    ("programming", "git: undo last commit but keep the changes"),
]


def score(text: str, domain: str) -> float:
    return float(keyword_scores(text)[DOMAINS.index(domain)])


@pytest.mark.parametrize(("domain", "prompt"), PROMPTS)
def test_plain_prompt_is_read_right(domain: str, prompt: str) -> None:
    assert RuleClassifier().classify(Message.of(prompt)).domain == domain


def test_prompts_cover_every_domain() -> None:
    assert {domain for domain, _ in PROMPTS} == set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_enough_terms_and_each_of_them_counts(domain: str) -> None:
    terms = LEXICON[domain]
    assert len(terms.strong) + len(terms.weak) >= 150
    assert not set(terms.strong) & set(terms.weak)
    assert [term for term in (*terms.strong, *terms.weak) if score(term.rstrip("*"), domain) <= 0] == []


@pytest.mark.parametrize("text", ["", "   \n", "?!... --- ()", "@@@@ ;;; {}"])
def test_text_without_words_names_nothing(text: str) -> None:
    assert not any(keyword_scores(text))
    task = RuleClassifier().classify(Message.of(text))
    assert task.domain == "chat"
    assert sum(task.domains.values()) == pytest.approx(1)


@pytest.mark.parametrize("text", ["pandas dataframe " * 6_000, "数据库" * 33_000, "a" * 100_000, "(" * 100_000])
def test_long_text_is_read_within_a_second(text: str) -> None:
    start = time.perf_counter()
    assert np.isfinite(keyword_scores(text)).all()
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("フォームの入力欄が", "forms"),
        ("我的数据库索引怎么建", "databases"),
        ("этот код не работает", "debugging"),
        ("इसका अनुवाद कर दो", "writing"),
        ("كلمة المرور", "auth"),
    ],
)
def test_other_scripts_are_read(text: str, domain: str) -> None:
    assert DOMAINS[int(np.argmax(keyword_scores(text)))] == domain


def test_strong_terms_outweigh_weak_ones_and_repeats_add_less_each_time() -> None:
    assert weights("zustand") == ((DOMAINS.index("state"), 1.0),)
    once, twice, thrice = (score("zustand " * n, "state") for n in (1, 2, 3))
    assert once == pytest.approx(np.log(2))
    assert once > twice - once > thrice - twice > 0


def test_shared_term_is_divided_among_its_domains() -> None:
    owners = weights("schema")
    assert len(owners) > 1
    assert all(weight == pytest.approx(0.4 / len(owners)) for _, weight in owners)


def test_phrase_needs_consecutive_tokens_and_reads_typographic_apostrophes() -> None:
    assert matches("a screen reader")["screen reader*"] == 1
    assert not matches("screen of the reader")["screen reader*"]
    assert matches("it doesn’t work")["doesn ' t work"] == 1


def test_phrase_may_end_in_a_prefix() -> None:
    assert matches("two unit tests")["unit test*"] == 1
    assert matches("it re-rendered")["re - render*"] == 1


def test_reasons_name_what_decided() -> None:
    task = RuleClassifier().classify(Message.of("tailwind flexbox"))
    assert task.reasons[0] == "css: names tailwind, flexbox"


def test_camel_case_is_one_name() -> None:
    assert "usestate" in tokens("useState")
    assert score("useState", "react") > score("useState", "state")
