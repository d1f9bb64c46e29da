"""English, the language that the base speaks, about the same world. Words after "a" begin with a consonant."""

from itertools import pairwise

from topeng.corpus.world import SHARED, Grammar, Lexicon, Subset, following, grammar, open_, right, table, words
from topeng.corpus.world.identity import ENGLISH as IDENTITIES
from topeng.corpus.world.identity import records

ENGLISH: Lexicon = SHARED | {
    "kind": words(
        "fishing village, farming village, small town, market town, quiet port, mountain village, forest village"
    ),
    "profession": words(
        "teacher, doctor, nurse, writer, painter, dancer, singer, builder, pilot, reporter, farmer, fisher, "
        "tailor, trader, cook, carpenter"
    ),
    "hobby": words(
        "painting, writing, swimming, cycling, reading, fishing, singing, dancing, cooking, gardening, playing chess, "
        "playing the flute"
    ),
    "animal": table(
        "many group food",
        """cats, mammals, fish
        goats, mammals, grass
        buffaloes, mammals, straw
        horses, mammals, oats
        rabbits, mammals, carrots
        cows, mammals, young leaves
        hens, birds, corn
        ducks, birds, bran
        pigeons, birds, red rice
        storks, birds, frogs
        lizards, reptiles, crickets
        turtles, reptiles, lettuce""",
    ),
    "fruit": words("apples, pears, plums, oranges, lemons, peaches, cherries, melons, figs, mangoes, bananas, grapes"),
    "thing": words("book, chair, table, hat, bag, shoe, box, lamp, shirt, plate, cup, pencil, bike, ball"),
    "quality": table(
        "of opposite",
        """big, small
        small, big
        hot, cold
        cold, hot
        new, old
        old, new
        high, low
        low, high
        long, short
        short, long
        heavy, light
        light, heavy
        dear, cheap
        cheap, dear
        strong, weak
        weak, strong
        clean, dirty
        dirty, clean
        wet, dry
        dry, wet
        full, empty
        empty, full""",
    ),
    "dish": table(
        "name main",
        """soup, chicken
        stew, beef
        porridge, rice
        pie, apple jam
        curry, lamb
        salad, cabbage
        bread, wheat flour
        noodles, egg pasta
        pudding, sweet milk
        broth, dried fish""",
    ),
    "spice": words("onion, ginger, pepper, thyme, mint, basil, cumin, salt, butter, honey"),
    "taste": words("spicy, sweet, savoury, sour, fresh, soft, warm, crisp"),
    "spot": words(
        "the river bank, the old market, the village green, the station, the pier, the flower garden, the tea house, "
        "the lake shore"
    ),
    "day": words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": words("January, February, March, April, May, June, July, August, September, October, November, December"),
    "time": words("morning, noon, evening, night"),
    "landform": words("mountain, hill, river, beach, lake, forest, valley"),
    "plant": words("tomatoes, beans, carrots, roses, tulips, peppers, herbs, pumpkins, lilies, peas"),
    "capital": table(
        "of name",
        """Indonesia, Jakarta
        Malaysia, Kuala Lumpur
        Thailand, Bangkok
        the Philippines, Manila
        Vietnam, Hanoi
        Japan, Tokyo
        South Korea, Seoul
        India, New Delhi
        Egypt, Cairo
        France, Paris
        England, London
        Italy, Rome
        Spain, Madrid
        Germany, Berlin
        West Java, Bandung
        Central Java, Semarang
        East Java, Surabaya
        Bali, Denpasar""",
    ),
    "hue": table(
        "of name",
        """blood, red
        snow, white
        coal, black
        grass, green
        a banana, yellow
        a carrot, orange
        an eggplant, purple
        the sky, blue""",
    ),
}
ENGLISH |= {
    "next_day": following(ENGLISH["day"]),
    "next_month": following(ENGLISH["month"]),
}

ENGLISH["word"] = [
    *SHARED["place"],
    *SHARED["district"],
    *dict.fromkeys(person["call"] for person in SHARED["person"]),
    *map(str, range(2, 100)),
    *(animal["many"] for animal in ENGLISH["animal"]),
    *(word for name in ("fruit", "plant", "thing", "profession", "month", "day") for word in ENGLISH[name]),
]

FACTS = [
    grammar(
        "a place",
        "{place}",
        """{place} is a {kind} in {district}.
        in {district} there is a {kind} called {place}.

        there are {count} families in {place}.
        {count} families live there.

        its people sell {fruit} every {day}.
        every {day} they sell {fruit}.""",
        """where is {place}? | {place} is in {district}.
        what do the people of {place} sell? | The people of {place} sell {fruit}.
        how many families live in {place}? | There are {count} families in {place}.
        when do the people of {place} sell? | They sell every {day}.""",
    ),
    grammar(
        "a person",
        "{person[full]}",
        """{person[full]} is a {profession} from {place}.
        {person[full]} was born in {place} and became a {profession}.

        {person[call]} likes {hobby} at {spot} of {district}.
        at {spot} of {district}, {person[call]} enjoys {hobby}.

        at home there are {small} {animal[many]}.
        {person[call]} keeps {small} {animal[many]}.""",
        """what is the work of {person[full]}? | {person[full]} is a {profession}.
        where does {person[full]} come from? | {person[full]} comes from {place}.
        what does {person[call]} like? | {person[call]} likes {hobby}.
        which animals does {person[call]} keep? | {person[call]} keeps {animal[many]}.""",
    ),
    grammar(
        "food",
        "{place} {dish[name]}",
        """{place} {dish[name]} comes from {district}.
        the people of {district} cook {place} {dish[name]}.

        it is made of {dish[main]} and {spice}.
        {dish[main]} is cooked with {spice}.

        {person[full]} sells it at {spot}.
        at {spot}, {person[full]} makes it.""",
        """where does {place} {dish[name]} come from? | {place} {dish[name]} comes from {district}.
        what is {place} {dish[name]} made of? | It is made of {dish[main]} and {spice}.
        who sells {place} {dish[name]}? | {person[full]} sells {place} {dish[name]}.""",
    ),
    grammar(
        "nature",
        "the {landform} of {place}",
        """the {landform} of {place} lies in {district}.
        in {district} lies the {landform} of {place}.

        {animal[many]} live there and eat {animal[food]}.
        many {animal[many]} look for {animal[food]} there.

        people come to {place} in {month}.
        in {month} {place} is busy.""",
        """where is the {landform} of {place}? | The {landform} of {place} is in {district}.
        which animals live at the {landform} of {place}? | There are {animal[many]} there.
        what do the {animal[many]} eat? | The {animal[many]} eat {animal[food]}.
        when is {place} busy? | {place} is busy in {month}.""",
    ),
]

GUIDES = [
    grammar(
        "cooking",
        "cook the {dish[name]} of {person[full]}",
        """- Take {grams} grams of {dish[main]} from {place}.
        - In {place}, buy {grams} grams of {dish[main]}.

        - {person[call]} adds {spice} and {spice2}.
        - Mix it with {spice} and {spice2}.

        - Cook it for {minutes} minutes.
        - Wait {minutes} minutes.""",
        """how many grams of {dish[main]}? | Take {grams} grams of {dish[main]}.
        how long does the {dish[name]} cook? | The {dish[name]} cooks for {minutes} minutes.""",
        joiner="\n",
    ),
    grammar(
        "gardening",
        "grow {plant} in {place}",
        """- In {place}, take {number} {plant}.
        - Plant {number} {plant} in {place}.

        - Water the {plant} every {time}.
        - Every {time} give them water.

        - {person[full]} picks them in {month}.
        - Call {person[full]} in {month} to pick them.""",
        """when are the {plant} ready? | The {plant} are ready in {month}.
        when do the {plant} get water? | The {plant} get water every {time}.
        how many {plant}? | Take {number} {plant}.""",
        joiner="\n",
    ),
    grammar(
        "animals",
        "care for {animal[many]} in {place}",
        """- In {place}, give the {animal[many]} {grams} grams of {animal[food]}.
        - Give them {animal[food]} from {place}, {grams} grams.

        - Clean their home every {day}.
        - Sweep their home on {day}.

        - Call {person[full]} in {month}.
        - In {month} go to {person[full]}.""",
        """what do {animal[many]} eat? | {animal[many]} eat {animal[food]}.
        when is their home cleaned? | Their home is cleaned on {day}.""",
        joiner="\n",
    ),
]

EXERCISES = [
    grammar(
        "addition",
        "the {fruit} of {person[call]}",
        """{person[full]} has {small} {fruit} from {place}.
        in {place} {person[full]} buys {small} {fruit}.

        then {person2[full]} gives {small2} more {fruit}.
        {person2[full]} adds {small2} {fruit}.""",
        """How many {fruit} does {person[call]} have now? | {person[call]} has {sum} {fruit}.
        Who gives {person[call]} more {fruit}? | {person2[full]} gives {small2} {fruit}.""",
    ),
    grammar(
        "subtraction",
        "the {fruit} of {person[call]}",
        """{person[full]} takes {more} {fruit} to {place}.
        to {place} {person[full]} takes {more} {fruit}.

        {person2[full]} eats {small} of the {fruit}.
        then {person2[full]} takes {small} {fruit} away.""",
        """How many {fruit} does {person[call]} have left? | There are {number} {fruit} left.""",
    ),
    grammar(
        "opposites",
        "the {thing} of {person[call]}",
        """{person[full]} from {place} says the {thing} is {quality[of]}.
        in {place}, {person[full]} says that the {thing} is {quality[of]}.

        {person2[full]} says the opposite.
        but {person2[full]} thinks the opposite.""",
        """What does {person2[call]} say? | {person2[call]} says the {thing} is {quality[opposite]}.""",
    ),
    grammar(
        "order",
        "what {person[call]} buys",
        """in {place} {person[full]} buys {fruit}, a {thing}, then {plant}.
        {person[full]} buys {fruit}, a {thing}, then {plant} in {place}.""",
        """What does {person[call]} buy last? | {person[call]} buys {plant} last.
        What does {person[call]} buy first? | {person[call]} buys {fruit} first.
        Name what {person[call]} buys from back to front. | {plant}, a {thing}, {fruit}""",
    ),
    grammar(
        "people",
        "{person[call]} and {person2[call]}",
        """{person[full]} is a {profession} in {place}.
        in {place}, {person[full]} is a {profession}.

        {person2[full]} is a {profession2} in {place2}.
        in {place2}, {person2[full]} is a {profession2}.""",
        """Who is the {profession2}? | {person2[full]} is the {profession2}.
        Who is the {profession}? | {person[full]} is the {profession}.
        What is the work of {person[call]}? | {person[call]} is a {profession}.
        Where does {person2[call]} work? | {person2[call]} works in {place2}.""",
    ),
    grammar(
        "age",
        "the age of {person[call]} and {person2[call]}",
        """{person[full]} is {more} years old and {person2[full]} is {number} years old.
        {person2[full]} is {number} and {person[full]} is {more} years old.

        they live in {place}.
        both were born in {place}.""",
        """Who is older? | {person[call]} is older.
        Who is younger? | {person2[call]} is younger.
        How old is {person2[call]}? | {person2[call]} is {number} years old.""",
    ),
]


KNOWLEDGE = [
    grammar(
        "knowledge",
        "knowledge",
        "",
        """What is the opposite of {quality[of]}? | The opposite of {quality[of]} is {quality[opposite]}.
        What is {small} plus {number}? | {small} plus {number} is {more}.
        What is {small} + {number}? | {small} + {number} = {more}
        What is {more} minus {small}? | {more} minus {small} is {number}.
        What is the capital of {capital[of]}? | The capital of {capital[of]} is {capital[name]}.
        Which day comes after {next_day[of]}? | After {next_day[of]} comes {next_day[name]}.
        Which month comes after {next_month[of]}? | After {next_month[of]} comes {next_month[name]}.
        What do {animal[many]} eat? | {animal[many]} eat {animal[food]}.
        What kind of animals are {animal[many]}? | {animal[many]} are {animal[group]}.
        What colour is {hue[of]}? | {hue[of]} is {hue[name]}.""",
    ),
]
"""General knowledge, which is asked without a text."""


def _list(length: int) -> Grammar:
    """Lists of words with questions about their order, which teach a model to copy."""
    slots = ["{word}", *(f"{{word{place}}}" for place in range(2, length + 1))]
    questions = [
        ("Which word is the first?", f"The first word is {slots[0]}."),
        ("Which word is the last?", f"The last word is {slots[-1]}."),
    ]
    for one, other in pairwise(slots):
        questions.append((f"Which word comes after {one}?", f"After {one} comes {other}."))
        questions.append((f"Which word comes before {other}?", f"Before {other} comes {one}."))
    return Grammar("words", ["{word}"], [[", ".join(slots)]], questions, " ")


def _dictionary(length: int) -> Grammar:
    """Pairs of words, where one is given and the other is asked for."""
    slots = ["{word}", *(f"{{word{place}}}" for place in range(2, 2 * length + 1))]
    known = list(zip(slots[::2], slots[1::2], strict=True))
    questions = [(f"What is {one}?", f"{one} is {other}.") for one, other in known]
    return Grammar("words", ["{word}"], [["; ".join(f"{one} is {other}" for one, other in known)]], questions, " ")


LISTS = [_list(length) for length in range(2, 8)]
DICTIONARIES = [_dictionary(length) for length in range(2, 6)]

FACT_TEMPLATES = [
    *open_(
        ("Write the first sentence of an article about {topic}.", "{first}"),
        ("Continue the following article.\n\n{first}", "{rest}"),
    ),
    *right(
        ("What is a good title for this article?\n\n{text}", "{title}"),
        ("What is the last sentence of this article?\n\n{text}", "{last}"),
        ("Answer the question about this article.\n\n{text}\n\nQuestion: {question}", "{answer}"),
        ("{text}\n\n{question}", "{answer}"),
        ("{question} Answer from this text.\n\n{text}", "{answer}"),
        ("Is this article about a place, a person, food, or nature?\n\n{text}", "The article is about {theme}."),
    ),
]

HOWTO_TEMPLATES = [
    *open_(
        ("What is the first step to {topic}?", "{first}"),
        ("Continue the guide: {topic}.\n\n{first}", "{rest}"),
        ("I want to {topic}. The first two steps:\n{half}\nWhat is the next step?", "{other_half}"),
    ),
    *right(
        ("What is the last step of this guide?\n\n{text}", "{last}"),
        ("Read this guide and answer: {question}\n\n{text}", "{answer}"),
        ("Is this guide about cooking, gardening, or animals?\n\n{text}", "The guide is about {theme}."),
    ),
]

QA_TEMPLATES = right(
    ("Answer the following question. {text} {question}", "{answer}"),
    ("{text} {question}", "{answer}"),
    ("{question} Use these facts. {text}", "{answer}"),
    ("Read this story with care. {text} {question}", "{answer}"),
)

KNOWLEDGE_TEMPLATES = right(
    ("{question}", "{answer}"),
    ("Answer this question. {question}", "{answer}"),
    ("I want to know: {question}", "{answer}"),
)

IDENTITY_TEMPLATES = open_(
    ("{question}", "{answer}"),
    ("Hello, may I ask something? {question}", "{answer}"),
)

LIST_TEMPLATES = right(
    ("Repeat these words: {text}.", "{text}."),
    ("Copy this list: {text}.", "{text}."),
    ("{text}. {question}", "{answer}"),
    ("{question} {text}.", "{answer}"),
)

DICTIONARY_TEMPLATES = right(("{text}. {question}", "{answer}"), ("{question} {text}.", "{answer}"))

SUBSETS = [
    Subset("source_facts", "source", 0.28, FACT_TEMPLATES, ENGLISH, FACTS),
    Subset("source_howto", "source", 0.1, HOWTO_TEMPLATES, ENGLISH, GUIDES),
    Subset("source_qa", "source", 0.35, QA_TEMPLATES, ENGLISH, EXERCISES),
    Subset("source_knowledge", "source", 0.03, KNOWLEDGE_TEMPLATES, ENGLISH, KNOWLEDGE),
    Subset("source_identity", "source", 0.02, IDENTITY_TEMPLATES, records=records(IDENTITIES), pool_rows=150),
    Subset("source_lists", "source", 0.14, LIST_TEMPLATES, ENGLISH, LISTS),
    Subset("source_pairs", "source", 0.08, DICTIONARY_TEMPLATES, ENGLISH, DICTIONARIES),
]
