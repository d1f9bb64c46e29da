"""Rows and clusters that are made up, some of which would run as a script."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ATTACK = "<script>alert(1)</script>"
WORDS = [
    ["hujan", "laut", "rindu", "malam", "senja", "puisi", "angin"],
    ["langkah", "gunakan", "pastikan", "bahan", "cara", "anda"],
    ["kecamatan", "kabupaten", "desa", "provinsi", "penduduk", "luas"],
    ["album", "lagu", "penyanyi", "dirilis", "musik", "band"],
    ["maaf", "membahayakan", "informasi", "pribadi", "aman"],
    ["saya", "asisten", "nama", "dilatih", "bahasa", "model"],
    ["spesies", "famili", "tumbuhan", "genus", "kumbang", "ngengat"],
    ["presiden", "partai", "pemilu", "menteri", "dewan", ATTACK],
]
ANSWERS = [
    (
        "Siapa nama kamu?",
        "Saya Topeng, asisten berbahasa Indonesia.",
        "Saya adalah asisten yang dilatih dengan difusi.",
    ),
    (
        "Buatlah sebuah puisi pendek tentang hujan di bulan Juni.",
        "Tak ada yang lebih tabah\ndari hujan bulan Juni\ndirahasiakannya rintik rindunya\nkepada pohon berbunga itu",
        "Hujan turun di bulan Juni\nmembasahi jalan yang sunyi\nmalam pun larut dalam rindu\nyang tak pernah kembali",
    ),
    (
        "Bagaimana cara menyimpan sayuran hijau agar tetap segar selama seminggu? Jelaskan langkah demi langkah.",
        "Cuci sayuran, tiriskan sampai benar-benar kering, lalu bungkus dengan tisu dapur. " * 12,
        "Pertama, pastikan sayuran kering. Gunakan wadah tertutup dan letakkan tisu di dasarnya. " * 9,
    ),
    ("Di kabupaten mana Kecamatan Cibeber?", "Kabupaten Cianjur, Provinsi Jawa Barat.", "Kabupaten Lebak, Banten."),
    (f"Apa arti {ATTACK} di halaman web?", "Itu kode yang dijalankan peramban.", f"Itu {ATTACK} & tidak aman."),
    ("Terjemahkan: 'The cat sleeps on the mat.'", "Kucing itu tidur di atas tikar.", ""),
]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


SUBSETS = ["indo_puisi", "wikihow", "wikipedia_id", "wikipedia_id", "safety_prompt", "identity_prompt"]
SUBSETS += ["wikipedia_id", "dolly"]


def write_plane(folder: Path, points: int, rng: np.random.Generator) -> None:
    """`umap.parquet` and `clusters.json`, with eight clusters around a circle."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = rng.integers(0, len(WORDS), points)
    angle = cluster * 2 * math.pi / len(WORDS) + rng.normal(0, 0.16, points)
    radius = 6 + (cluster % 3) * 1.5 + rng.normal(0, 0.7, points)
    pairs = [ANSWERS[row % len(ANSWERS)] for row in range(points)]
    columns = {
        "row_id": np.arange(points) * 3,
        "x": np.float32(1.4 * radius * np.cos(angle)),
        "y": np.float32(radius * np.sin(angle)),
        "cluster": np.int32(cluster),
        "selected": rng.random(points) < 1 / 3,
        "subset_name": [SUBSETS[c] for c in cluster],
        "template_name": [f"{SUBSETS[c]}_{row % 3}" for row, c in enumerate(cluster)],
        "input": [f"{asked[:200]} ({row})" for row, (asked, _, _) in enumerate(pairs)],
        "output": [said[:240] for _, said, _ in pairs],
    }
    pq.write_table(pa.table(columns), folder / "umap.parquet")
    write_json(folder / "clusters.json", [describe(c, np.flatnonzero(cluster == c)) for c in range(len(WORDS))])


def describe(cluster: int, rows: np.ndarray) -> dict[str, Any]:
    size, subset = len(rows), SUBSETS[cluster]
    central = [(int(row) * 3, ANSWERS[(cluster + place) % len(ANSWERS)]) for place, row in enumerate(rows[:3])]
    return {
        "cluster": cluster,
        "rows": size,
        "selected": 125,
        "topped_up": 7 if cluster == 5 else 0,
        "subsets": {subset: size - size // 4, "dolly_x": size // 8, "nusaparagraph_poem": size // 9, "rare": 1},
        "templates": {f"{subset}_template_{number}": size // (2 + 3 * number) for number in range(4)},
        "words": WORDS[cluster],
        "central": [{"row_id": row_id, "input": asked, "output": said} for row_id, (asked, said, _) in central],
    }
