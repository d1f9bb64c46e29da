"""Made-up rows of the Indonesian benchmarks: as their local files have them, and as the Hub's copies do."""

import csv
import json

from datasets import Dataset, DatasetDict

CAUSES = [
    {
        "premise": "Jalan itu basah.",
        "choice1": "Hujan turun semalam.",
        "choice2": "Matahari terik.",
        "question": "cause",
    },
    {"premise": "Ibu menanak nasi", "choice1": "Nasi mentah.", "choice2": "Nasi matang!", "question": "effect"},
    {"premise": "Adik jatuh?!", "choice1": "Ia menangis.", "choice2": "Ia terbang.", "question": "effect"},
]
CAUSES = [row | {"idx": place, "label": [0, 1, 0][place]} for place, row in enumerate(CAUSES)]
PAIRS = [
    ("Kucing itu tidur di kursi.", "Ada kucing.", "e"),
    ("Kucing itu tidur di kursi.", "Kucing itu lapar.", "n"),
    ("Kucing itu tidur di kursi.", "Kucing itu berlari.", "c"),
]
PAIRS = [{"pair_id": 7, "premise": given, "hypothesis": said, "label": label} for given, said, label in PAIRS]
REVIEWS = [
    ("Makanannya enak sekali", "positive"),
    ("Toko buka pukul tujuh", "neutral"),
    ("Pelayanannya buruk", "negative"),
]
REVIEWS = [{"id": "4", "text": text, "label": label} for text, label in REVIEWS]
SENTENCES = [("Kucing itu tidur.", "The cat sleeps."), ("Saya pergi ke pasar.", "I go to the market.")]
SENTENCES = [{"indonesian": one, "english": other} for one, other in SENTENCES]
QUESTIONS = [
    {
        "question": "Ibu kota Indonesia?",
        "option_a": "Medan",
        "option_b": "Bali",
        "option_c": "Jakarta",
        "option_d": "Solo",
    },
    {"question": "Dua tambah dua? ", "option_a": "4", "option_b": "3", "option_c": "5", "option_d": "2"},
]
NESTED = [
    {"metadata": {"sample_id": f"x/{place}"}, "prompts": [asked], "label": "CA"[place], "id": place}
    for place, asked in enumerate(QUESTIONS)
]
LOCAL = {
    "copal_id_standard.csv": CAUSES,
    "copal_id_colloquial.csv": CAUSES,
    "xcopa_id.jsonl": CAUSES,
    "xcopa_id_val.jsonl": CAUSES[:1],
    "indonli_test_lay.jsonl": PAIRS,
    "indonli_test_expert.jsonl": PAIRS,
    "nusax_sentiment_id.csv": REVIEWS,
    "nusax_mt_id_en.csv": SENTENCES,
    "global_mmlu_lite_id_test.jsonl": NESTED,
    "global_mmlu_lite_id_dev.jsonl": NESTED,
}


def write(folder):
    for name, rows in LOCAL.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            if name.endswith(".csv"):
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def from_hub(path, name=None, **kwargs):
    """As `datasets.load_dataset`, of the shapes that the Hub's cards state, in another order than the files."""
    inference = [row | {"label": "enc".index(row["label"])} for row in PAIRS]
    reviews = [row | {"label": ["negative", "neutral", "positive"].index(row["label"])} for row in REVIEWS]
    sentences = [{"text_1": row["indonesian"], "text_2": row["english"]} for row in SENTENCES]
    questions = [row["prompts"][0] | {"answer": row["label"], "sample_id": "x"} for row in NESTED]
    splits = {
        ("haryoaw/COPAL", "id"): {"test": CAUSES, "test_colloquial": CAUSES},
        ("cambridgeltl/xcopa", "id"): {"validation": CAUSES[:1], "test": CAUSES},
        ("afaji/indonli", "indonli"): {"train": inference[:1], "test_lay": inference, "test_expert": inference},
        ("indonlp/NusaX-senti", "ind"): {"train": reviews[:1], "test": reviews},
        ("indonlp/NusaX-MT", "ind-eng"): {"test": sentences},
        ("CohereForAI/Global-MMLU-Lite", "id"): {"dev": questions, "test": questions},
    }[path, name]
    return DatasetDict({split: Dataset.from_list(rows[::-1]) for split, rows in splits.items()})
