"""Whether a turn of a conversation leans on what was said before; cues of the languages that the eval set holds, in their common words."""

from __future__ import annotations

import re
from typing import Final

from modelyard.tasks.lexicon import DOMAINS
from modelyard.tasks.matching import matches, weights

HEAD_CHARS: Final = 160  # a turn that leans says so at its start
TERSE_CHARS: Final = 60  # a turn of fewer characters may name no subject
FEW_WORDS: Final = 3  # in so few words, those of small talk and of complaint name none: "are you sure", "why?"
NAMED: Final = 0.41  # weight of the lexicon's terms that name a subject: one strong term, or two weak ones

_TALK: Final = frozenset(DOMAINS.index(domain) for domain in ("chat", "debugging"))


def leans(text: str) -> bool:
    """Return whether a turn says too little by itself."""
    head = text[: 2 * HEAD_CHARS].strip().lower().replace("’", "'")
    courtesy = _COURTESY.match(head)
    rest = head[courtesy.end() if courtesy else 0 :][:HEAD_CHARS]
    if not rest.strip(" .!?…:;,-)("):
        return True
    if _CONTINUES.match(rest):
        return True
    if _POINTS_BACK.match(rest) and not _brings_matter(text):
        return True
    return len(text) < TERSE_CHARS and _names_no_subject(rest)


def _brings_matter(text: str) -> bool:
    """Return whether a turn holds what it may point at: code, a trace or a quotation below its first line or after a colon."""
    return "\n" in text.strip() or ": " in text or "`" in text


def _names_no_subject(text: str) -> bool:
    talk = _TALK if len(text.split()) <= FEW_WORDS else frozenset[int]()
    found = dict.fromkeys(range(len(DOMAINS)), 0.0)
    for term in matches(text):
        for domain, weight in weights(term):
            if domain not in talk:
                found[domain] += weight
    return max(found.values()) < NAMED


_COURTESY: Final = re.compile(
    r"""(?x) (?: (?:
        (?: ok | okay | k | thanks | thx | ty | cheers | great | perfect | nice | cool | awesome | good | lovely | wonderful | excellent
          | brilliant | hmm? | oh | ah | hey | hi | hello | yes | yeah | yep | yup | no | nope | nah | sure | please | pls | so | well
          | right | alright | sorry | thank[ ]you | got[ ]it | i[ ]see | very[ ]much | so[ ]much | a[ ]lot
          | danke | super | gracias | perfecto | vale | merci | parfait | obrigad[oa] | grazie | dzięki | dziękuję | спасибо ) \b
        | ありがとう(?:ございます)? | 谢谢
    ) [\s.,!;:)…、。！，-]* )+"""
)
_CONTINUES: Final = re.compile(
    r"""(?x) (?: (?:
        and | but | also | or | then | instead | still | again | another | more | same | continue | not[ ]working
        | now (?! [ ](?: how | what | which | why | where | is | does ) \b )
        | (?: what | how )[ ]about | what[ ](?: else | if )\b | how[ ](?: so | come )\b | why[ ]not
        | go[ ](?: on | ahead ) | keep[ ]going | carry[ ]on | next[ ](?: step | one ) | try[ ]again | one[ ]more
        | the[ ](?: same | other | first | second | third | last )[ ](?: one | part | line )
        | i[ ](?: meant | still | get[ ]the[ ]same ) | you[ ](?: said | wrote | forgot | missed | used )
        | (?: did | does )[ ]?n[o']?t[ ](?: help | work )
        | und | aber | auch | weiter | mach[ ]weiter | immer[ ]noch | et | mais | aussi | encore | toujours
        | y | pero | también | sigue | continúa | todavía | e(?=[ ]) | também | ainda | continua | ale | ma | anche | ancora
        | а | и | но | ещ[её]
    ) \b | 続け | もっと | 继续 )"""
)
_POINTS_BACK: Final = re.compile(
    r"""(?x)
    (?! it's\b (?! [ ](?: still | not | the[ ]same | failing | broken | too | wrong ) ) )  # "it's noon" points nowhere
    (?: (?: (?: can | could | would )[ ](?: you | u )[ ] )? (?: \w+[ ] ){0,2}
        (?: it | that | this | they | those | these | them ) \b
        (?! '| [ ]\w+[ ]to\b | [ ](?: the | an? | my | our | your | i | we | there )\b )  # "is it ok to", "prove that the"
      | .{0,40} \b (?: you[ ](?: said | wrote | used? | suggested | gave ) | again | as[ ]before
        | the[ ](?: other | second | third | last | previous | above )[ ]\w+ ) \b
    )"""
)
