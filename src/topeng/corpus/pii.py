"""Personal data as Indonesians write it: identity (NIK) and tax numbers (NPWP), telephone numbers, e-mail addresses.

Only data with a recognisable form is masked. A NIK contains a province, a regency and a date of birth, so about 2 % of
random 16-digit numbers look like one. A tax number without dots is only recognised by the word NPWP before it.
"""

import re
from collections import Counter
from collections.abc import Iterable

WORTH_A_LOOK = re.compile(r"@|\d(?:[ .()-]{0,2}\d){6}")

PERSONAL = re.compile(
    r"""
    (?P<EMAIL> (?<![\w.+-]) [A-Za-z0-9][\w.+-]* @ (?:[A-Za-z0-9-]+\.)+ [A-Za-z]{2,} \b)
    | (?P<ISBN> \bISBN (?:-1[03])? [: ]{0,2} [\dXx -]{10,17})  # not personal: it stays
    | (?P<word> \b(?i:npwp)\D{0,20}) (?P<NPWP_BARE> \d{15,16}) (?!\d)
    |
    # A separate number: in no word or longer number, and in no web address but WhatsApp's.
    (?: (?<=wa\.me/) | (?<![\w=])(?<![A-Za-z]/)(?<!\d[.,-]) )
    (?:
        (?P<NPWP> \d{2}\.\d{3}\.\d{3}\.\d[-.]\d{3}\.\d{3})
        |
        (?P<NIK>
            (?:1[1-9]|21|3[1-6]|5[1-3]|6[1-5]|7[1-6]|8[12]|9[1-6]) [ .-]?   # province
            (?:0[1-9]|[1-7]\d) [ .-]? (?!00)\d{2} [ .-]?                  # regency, district
            (?:[04][1-9]|[1256]\d|[37][01]) [ .-]?                        # day of birth; 40 is added to a woman's
            (?:0[1-9]|1[0-2]) \d{2} [ .-]?                                # month and year
            (?!0000)\d{4}
        )
        |
        (?P<TELEPON>
            \(?\+62\)? (?:[ .()-]{0,2}\d){8,12}
            | (?:62[ -]? | \(?0) 8[1-9]\d (?:\)?[ -]?\d){6,9}  # a mobile; with dots after 62 it is a price
            | 08[1-9]\d (?:\.\d{3,5}){2}
            | (?:\(0[2-79]\d{1,2}\)[ ]? | 0[2-79]\d{1,2}[ -]) \d{3,4}[ .-]?\d{3,4}  # a landline
            | 0[2-79]\d{7,9}
        )
    )
    (?!\d)(?![.,-]\d)
    """,
    re.VERBOSE,
)


PLACEHOLDER = re.compile(r"\[(NIK|NPWP|TELEPON|EMAIL)\]")


def mask(texts: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """The texts with the placeholders `[NIK]`, `[NPWP]`, `[TELEPON]` and `[EMAIL]`, and how often each was inserted."""
    counts: Counter[str] = Counter()

    def placeholder(match: re.Match[str]) -> str:
        if match["ISBN"]:
            return match[0]
        kind = str(match.lastgroup).removesuffix("_BARE")
        counts[kind] += 1
        return f"{match['word'] or ''}[{kind}]"

    return [PERSONAL.sub(placeholder, text) if WORTH_A_LOOK.search(text) else text for text in texts], counts


def count(texts: Iterable[str]) -> Counter[str]:
    """How often each placeholder occurs in texts."""
    return Counter(kind for text in texts for kind in PLACEHOLDER.findall(text))
