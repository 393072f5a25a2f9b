from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.retrieval import parse_document
from modelyard.retrieval.chunks import LONGEST, chunks, units
from tests.unit.retrieval.knowledge import EFFECTS, LAYOUT, knowledge

PIECES = st.sampled_from(
    [
        "# One\n",
        "## Two\n",
        "A sentence. Another one!\n",
        "- item with `a. B` code\n",
        "```js\nlet a = 1;\n\n# no heading\n```\n",
        "\n",
        "| a | b |\n",
        "| - | - |\n",
        "~~~\nopen",
        "Ein Satz ohne Ende\n",
        "---\n",
        "word " * 200,
        "\r\n",
    ]
)


@given(st.lists(PIECES, max_size=20).map("".join))
def test_passages_cover_the_text_in_order_without_overlap(text: str) -> None:
    document = parse_document("a", text)
    position = document.body
    for chunk in chunks(document):
        assert position <= chunk.start < chunk.end
        assert not set(text[position : chunk.start]) - set(" \r\n|-:")  # nothing but space and rules lies between
        position = chunk.end
    assert not set(text[position:]) - set(" \r\n|-:")


def test_passages_carry_their_headings() -> None:
    found = chunks(knowledge()[0])
    assert [chunk.headings for chunk in found] == [("Effects in React",), ("Effects in React", "Running twice")]
    assert EFFECTS[found[1].start :].startswith("## Running twice")


def test_code_belongs_to_the_sentence_before_it_and_stays_whole() -> None:
    unit = units(EFFECTS)[-1]
    assert EFFECTS[unit.sentence.start : unit.sentence.end] == "Production mounts once."
    code = EFFECTS[unit.code.start : unit.code.end]
    assert code.startswith("```tsx") and code.endswith("```") and "\n\n" in code


def test_code_without_a_sentence_is_a_unit_of_its_own() -> None:
    source = "# T\n\n```\na\n```\n\n```\nb\n```\n"
    assert [source[unit.quoted.start : unit.quoted.end] for unit in units(source)] == ["```\na\n```", "```\nb\n```"]


def test_items_rows_and_abbreviations_make_whole_sentences() -> None:
    body = LAYOUT.index("- Flexbox")
    said = [LAYOUT[unit.start : unit.end] for unit in units(LAYOUT, body)]
    assert said == [
        "- Flexbox needs `justify-content` and `align-items`, e.g. on a row.",
        "Both take `center`.",
        "- Set a height, or there is nothing to centre in.",
        "| property | default |",
        "| `align-items` | stretch |",
    ]


def test_long_sections_are_cut_between_sentences() -> None:
    document = parse_document("a", "# T\n\n" + "This sentence has exactly forty letters.. " * 60)
    found = chunks(document)
    assert len(found) > 3
    assert all(chunk.end - chunk.start <= LONGEST for chunk in found)
    assert all(document.source[chunk.end - 1] == "." for chunk in found)


def test_text_without_sentence_ends_is_still_cut() -> None:
    assert all(chunk.end - chunk.start <= LONGEST for chunk in chunks(parse_document("a", "word " * 2000)))
    assert all(chunk.end - chunk.start <= LONGEST for chunk in chunks(parse_document("a", "x" * 5000)))
