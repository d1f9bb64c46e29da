"""What `synthetic` composes its rows from: lexicons, grammars and templates, as data.

A slot such as `{fruit}` is drawn from the lexicon's list of that name; `{fruit2}` is another draw, never the
same; `{animal[food]}` is a column of a drawn record, so that what goes together stays together.

Two texts must not be taken for one: runs without a slot are short, and a line that can be a whole answer either
names its place or person or stays under the 40 characters that count as source text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Lexicon = dict[str, Sequence[Any]]
Template = tuple[str, str]


@dataclass(frozen=True)
class Grammar:
    """One kind of text: each line is drawn from its variants, each question comes with its answer."""

    theme: str
    titles: list[str]
    lines: list[list[str]]
    questions: list[Template]
    joiner: str


@dataclass(frozen=True)
class Subset:
    """A share of the rows: texts of some grammars under some templates, or a fixed pool of records.

    A text stands once under each template; with `copies` it stands that often under a single one. A pool is
    every record under every template, cut at `pool_rows` and repeated for as long as rows are asked for.
    """

    name: str
    dataset: str
    share: float
    templates: list[Template]
    lexicon: Lexicon = field(default_factory=dict)
    grammars: list[Grammar] = field(default_factory=list)
    copies: int = 1
    records: list[dict[str, str]] = field(default_factory=list)
    pool_rows: int = 0


def _grammar(theme: str, titles: str, lines: str, questions: str = " | ", joiner: str = " ") -> Grammar:
    """A grammar from plain text: a blank line ends a line's variants, a bar stands between question and answer."""
    return Grammar(theme, titles.split(" | "), _blocks(lines), _pairs(questions), joiner)


def _blocks(text: str) -> list[list[str]]:
    return [[line.strip() for line in block.strip().split("\n")] for block in text.split("\n\n")]


def _pairs(text: str) -> list[Template]:
    return [(first.strip(), second.strip()) for first, second in (line.split(" | ") for line in text.split("\n"))]


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _table(columns: str, text: str) -> list[dict[str, str]]:
    return [dict(zip(columns.split(), _list(line), strict=True)) for line in text.split("\n")]


def _names(*syllables: str) -> list[str]:
    return ["".join(parts) for parts in product(*(text.split() for text in syllables))]


def _people(given: str, family: str) -> list[dict[str, str]]:
    return [{"full": f"{call} {name}", "call": call} for call, name in product(given.split(), family.split())]


# One world in both languages: its names give the English tokenizer syllables that Indonesian needs.
SHARED: Lexicon = {
    "small": range(2, 10),
    "number": range(3, 41),
    "minutes": range(5, 65, 5),
    "grams": range(100, 1000, 50),
    "count": range(21, 980),
    "year": range(1801, 2021),
    "place": _names(
        "Ka Ra Ba Su Ta Ma La Pa Sa Wa Gu Ci Ke Lu Mo Na Ro Si Te Da",
        "ra la ma na ri li ta ru lo ngga mba nda wa su ge",
        "ja ma tan rang lu ri yu ti kan bang lo sari ya jati rejo dung nang",
    ),
    "district": _names(
        "Ban Sin Lam Pur Gar Mar Tan Kar Sum Won Jem Ngan Bin Tul Cil Pan Ser Lum Kun Med",
        "dang tar bak jaya wangi gis kal sono tung puri lang dara mulya gading",
    ),
    "province": _list(
        "Jawa Barat, Jawa Tengah, Jawa Timur, Bali, Banten, Aceh, Riau, Jambi, Lampung, Bengkulu, Maluku, Papua, "
        "Gorontalo, Sumatera Utara, Sumatera Barat, Sumatera Selatan, Kalimantan Barat, Kalimantan Timur, "
        "Sulawesi Utara, Sulawesi Selatan, Nusa Tenggara Barat, Nusa Tenggara Timur"
    ),
    "person": _people(
        "Adi Agus Andi Anisa Ayu Bagus Bayu Budi Citra Dewi Dian Dimas Eka Fajar Fitri Galih Hadi Hana Indah Intan "
        "Joko Kartika Laras Maya Mega Nadia Nina Putri Rahma Rani Ratna Rina Rizki Sari Sinta Siti Surya Tari Tono "
        "Wahyu Wati Wulan Yanti Yudi Yusuf Zahra",
        "Hidayat Kusuma Lestari Nugroho Pratama Purnama Santoso Setiawan Siregar Suryadi Susanto Utama Wibowo Wijaya "
        "Maulana Permata Rahayu Gunawan Halim Hartono Iskandar Kurniawan Mahendra Mulyadi Nasution Ginting Manurung "
        "Lubis Harahap Pangestu",
    ),
}

INDONESIAN: Lexicon = SHARED | {
    "kind": _list(
        "desa nelayan, desa petani, kampung tua, kota kecil, desa wisata, kota pelabuhan, desa pengrajin, "
        "kampung adat, kota pasar, desa pegunungan, kota tua, desa bahari"
    ),
    "job": _table(
        "name product",
        """petani, padi
        nelayan, ikan laut
        peternak, susu segar
        pengrajin, keranjang bambu
        penenun, kain tenun
        pandai besi, pisau dapur
        pembuat roti, roti manis
        pekebun, kopi dan teh
        penjahit, baju batik
        tukang kayu, meja dan kursi
        pembuat tahu, tahu dan tempe
        peternak lebah, madu hutan
        perajin perak, cincin perak
        petani garam, garam dapur""",
    ),
    "profession": _list(
        "guru, dokter, perawat, penulis, pelukis, penari, penyanyi, arsitek, pustakawan, pemahat, pilot, apoteker, "
        "wartawan, pemain gamelan, dalang, ahli burung, juru masak, insinyur"
    ),
    "subject": _list(
        "musik, sejarah, ilmu alam, tari, bahasa, kedokteran, seni rupa, pertanian, matematika, ilmu laut"
    ),
    "hobby": _list(
        "bermain suling, melukis perahu, merawat anggrek, menulis surat, membuat layang-layang, berenang, bersepeda, "
        "membaca dongeng, bermain catur, memancing, menyanyi, membuat topeng"
    ),
    "relative": _list("kakek, nenek, ayah, ibu, paman, bibi, kakak, sepupu"),
    "animal": _table(
        "name group food home",
        """kucing, mamalia, ikan, keranjang
        kambing, mamalia, rumput, kandang bambu
        kerbau, mamalia, jerami, kandang luas
        kuda, mamalia, gandum, istal
        kelinci, mamalia, wortel, kotak kayu
        sapi, mamalia, daun muda, kandang besar
        hamster, mamalia, kuaci, kandang kecil
        rusa, mamalia, pucuk daun, pagar tinggi
        ayam, burung, jagung, kandang ayam
        bebek, burung, dedak, kolam
        merpati, burung, beras merah, rumah burung
        bangau, burung, katak, sarang
        merak, burung, biji-bijian, sangkar
        penyu, reptil, ubur-ubur, bak air
        kadal, reptil, jangkrik, kotak kaca
        kura-kura, reptil, selada, kolam batu""",
    ),
    "fruit": _list(
        "mangga, pisang, jeruk, nanas, pepaya, rambutan, salak, manggis, durian, semangka, melon, jambu, "
        "belimbing, sirsak"
    ),
    "dish": _table(
        "name main",
        """soto, ayam
        sate, daging sapi
        bubur, beras
        pepes, ikan mas
        gulai, kambing
        rendang, daging
        pecel, sayur
        serabi, tepung beras
        lontong, beras pulen
        bakso, daging giling
        rawon, daging sandung
        sayur asem, melinjo
        mi goreng, mi telur
        perkedel, kentang
        opor, ayam kampung
        kolak, ubi manis""",
    ),
    "spice": _list(
        "bawang merah, bawang putih, jahe, kunyit, lengkuas, serai, ketumbar, kemiri, cabai, santan, daun salam, "
        "daun jeruk, kecap manis, lada, asam jawa, gula aren"
    ),
    "taste": _list("pedas, manis, gurih, asam, segar, lembut, hangat, renyah"),
    "spot": _list(
        "tepi sungai, pasar lama, lapangan desa, bawah beringin, stasiun kecil, alun-alun, dermaga kayu, taman bunga, "
        "halaman sekolah, kebun teh, jembatan tua, balai warga, pinggir sawah, rumah panggung, tepi danau, warung pojok"
    ),
    "day": _list("Senin, Selasa, Rabu, Kamis, Jumat, Sabtu, Minggu"),
    "month": _list("Januari, Februari, Maret, April, Mei, Juni, Juli, Agustus, September, Oktober, November, Desember"),
    "weather": _list(
        "langit cerah, angin sejuk, bunga mekar, air tenang, hujan reda, kabut tipis, udara hangat, musim panen"
    ),
    "time": _list("pagi, siang, sore, malam, fajar, senja"),
    "hour": _list("pagi hari, siang hari, sore hari, malam hari, waktu senja, waktu fajar"),
    "landform": _table(
        "name size unit",
        """gunung, tinggi, meter
        bukit, tinggi, meter
        sungai, panjang, kilometer
        pantai, panjang, kilometer
        danau, luas, hektare
        hutan, luas, hektare
        air terjun, tinggi, meter
        pulau, luas, hektare""",
    ),
    "plant": _list("cabai, tomat, bayam, kangkung, terung, mentimun, seledri, kemangi, jahe, kunyit, melati, mawar"),
    "pot": _list(
        "pot tanah, kaleng bekas, ember kecil, bedeng kayu, botol besar, karung goni, kotak bambu, pot gantung"
    ),
    "soil": _list("tanah hitam, pasir halus, kompos, sekam bakar, pupuk kandang, tanah merah, serbuk kayu"),
    "event": _list(
        "pesta panen, lomba perahu, pentas tari, pameran lukisan, makan malam, kerja bakti, ulang tahun, pasar malam, "
        "latihan paduan suara, pertandingan catur"
    ),
    "thing": _table(
        "name theme verb",
        """hujan, alam, turun perlahan
        ombak, laut, memeluk karang
        bulan, malam, bersinar terang
        angin, alam, berbisik lirih
        ibu, keluarga, menunggu sabar
        ayah, keluarga, bekerja keras
        kakek, keluarga, bercerita panjang
        nenek, keluarga, menenun kain
        guru, pendidikan, mengeja kata
        murid, pendidikan, membuka buku
        petani, pekerjaan, menanam padi
        nelayan, pekerjaan, menebar jala
        sahabat, persahabatan, tertawa riang
        burung, alam, berkicau merdu
        pelangi, alam, melengkung indah
        kereta, perjalanan, melaju jauh
        perahu, perjalanan, berlayar pelan
        bunga, alam, mekar merona
        sungai, alam, mengalir jernih
        bintang, malam, berkedip manja
        mercusuar, laut, menjaga teluk
        camar, laut, terbang rendah
        lampu, malam, menyala redup
        pengembara, perjalanan, memanggul tas""",
    ),
    "colour": _list("biru, jingga, ungu, kelabu, keemasan, putih, merah muda, hijau tua"),
    "sky": _list("langit, awan, kabut, cahaya, asap dapur, bayangan, daun, debu"),
    "gift": _list("rindu, harapan, kabar baik, harum melati, lagu lama, doa, senyuman, kenangan, janji, cerita kecil"),
    "sound": _list("suling bambu, lonceng sekolah, rintik air, tawa anak, gamelan, jangkrik, tembang, kepak sayap"),
    "feel": _list("tersenyum, terdiam, menangis, berjalan, melangkah, terjaga, duduk, berdoa"),
    "wish": _list(
        "jangan lekas pergi, tinggallah di sini, temani langkahku, simpan rinduku, dengar suaraku, tunggulah aku, "
        "bawa aku pulang, ajari aku sabar, tetaplah setia, peluk mimpiku"
    ),
}

POEMS = [
    _grammar(
        "{thing[theme]}",
        "{thing[name]} di {place} | {thing[name]} dan {thing2[name]} di {place} | surat untuk {thing[name]} di {place}",
        """di {place} {thing[name]} {thing[verb]}
        {thing[name]} {thing[verb]} di {place}
        kulihat {thing[name]} {place} {thing[verb]}

        {sky} {colour} menyelimuti {spot}
        dekat {spot} ada {sky} {colour}
        {colour} warna {sky} di {spot}

        {thing2[name]} {thing2[verb]} membawa {gift}
        bersama {gift} {thing2[name]} {thing2[verb]}
        {thing2[name]} dan {gift} {thing2[verb]}

        aku {feel} mendengar {sound}
        terdengar {sound}, aku {feel}
        {sound} membuatku {feel} sendiri

        wahai {thing[name]} {place}, {wish}
        {wish}, {thing[name]} {place}
        tiap {time} di {place} kupinta, {wish}""",
        joiner="\n",
    ),
]

ARTICLES = [
    _grammar(
        "tempat",
        "{place}",
        """{place} adalah {kind} di kabupaten {district}, {province}.
        {kind} {place} terletak di {district}, {province}.
        di {district}, {province}, ada {kind} bernama {place}.

        tempat ini berdiri tahun {year} dan dihuni {count} keluarga.
        sejak tahun {year}, {count} keluarga tinggal di sana.
        ada {count} keluarga di {place} pada tahun {year}.

        warga {place} bekerja sebagai {job[name]} dan menjual {job[product]}.
        hasil utamanya {job[product]}, karena banyak {job[name]} di {place}.
        para {job[name]} di sana menghasilkan {job[product]}.

        setiap hari {day} ada pasar {fruit} di {spot} {place}.
        pada hari {day} orang {place} menjual {fruit} di {spot}.
        {spot} {place} ramai dengan penjual {fruit} setiap {day}.""",
        """di kabupaten mana {place} terletak? | {place} terletak di kabupaten {district}.
        apa pekerjaan warga {place}? | Warga {place} bekerja sebagai {job[name]}.
        berapa keluarga tinggal di {place}? | Ada {count} keluarga di {place}.""",
    ),
    _grammar(
        "tokoh",
        "{person[full]}",
        """{person[full]} adalah {profession} yang lahir di {place} tahun {year}.
        lahir di {place} tahun {year}, {person[full]} dikenal sebagai {profession}.
        seorang {profession} bernama {person[full]} lahir di {place} tahun {year}.

        ia belajar {subject} di kota {district} selama {small} tahun.
        di {district} ia mempelajari {subject} selama {small} tahun.

        waktu kecil {person[call]} suka {hobby} bersama {relative} di {spot}.
        {relative} mengajarinya {hobby} di {spot} setiap {day}.
        setiap {day}, {person[call]} dan {relative} gemar {hobby}.

        kini {person[call]} memelihara {small2} ekor {animal[name]} di {district}.
        di rumah {person[full]} ada {small2} ekor {animal[name]} dan kebun {fruit}.""",
        """apa pekerjaan {person[full]}? | {person[full]} adalah seorang {profession}.
        di mana {person[full]} lahir? | {person[full]} lahir di {place}.
        apa yang dipelajari {person[full]}? | Ia belajar {subject} di {district}.""",
    ),
    _grammar(
        "makanan",
        "{dish[name]} {place}",
        """{dish[name]} {place} adalah makanan khas {district}, {province}.
        orang {district}, {province}, membuat makanan bernama {dish[name]} {place}.
        dari {district}, {province}, berasal {dish[name]} {place}.

        bahannya {dish[main]}, {spice}, dan {spice2}.
        {dish[main]} dimasak dengan {spice} dan {spice2} selama {minutes} menit.
        bumbunya {spice} serta {spice2}, isinya {dish[main]}.

        {person[full]} mulai menjualnya tahun {year} di {spot}.
        pada tahun {year} resepnya ditulis oleh {person[full]}.

        rasa {dish[name]} {place} {taste} dan {taste2}, cocok untuk {hour}.
        pada {hour} {dish[name]} {place} dimakan dengan {fruit}.
        {dish[name]} {place} terasa {taste} bila dimakan dengan {fruit}.""",
        """dari mana asal {dish[name]} {place}? | {dish[name]} {place} berasal dari {district}.
        apa isi {dish[name]} {place}? | Isi {dish[name]} {place} {dish[main]}, {spice}, dan {spice2}.""",
    ),
    _grammar(
        "alam",
        "{landform[name]} {place}",
        """{landform[name]} {place} berada di antara {district} dan {district2}, {province}.
        antara {district} dan {district2}, {province}, terdapat {landform[name]} {place}.
        {province} memiliki {landform[name]} {place} di dekat {district}.

        {landform[size]}nya {count} {landform[unit]} menurut catatan tahun {year}.
        pada tahun {year} {landform[size]}nya diukur: {count} {landform[unit]}.

        di sekitarnya hidup {animal[name]} yang makan {animal[food]}.
        banyak {animal[name]} mencari {animal[food]} di sana.
        {animal[name]} datang setiap {time} mencari {animal[food]}.

        pada bulan {month} {landform[name]} {place} ramai karena {weather}.
        datanglah ke {place} pada bulan {month}, saat {weather}.""",
        """berapa {landform[size]} {landform[name]} {place}? | {landform[size]}nya {count} {landform[unit]}.
        hewan apa yang hidup di sana? | Di sana hidup {animal[name]}.
        kapan waktu terbaik untuk datang? | Waktu terbaik adalah bulan {month}.""",
    ),
]

GUIDES = [
    _grammar(
        "memasak",
        "cara memasak {dish[name]} {spice} ala {person[full]} | cara membuat {dish[name]} seperti {person[full]}",
        """- Untuk {dish[name]} {person[full]}, siapkan {grams} gram {dish[main]} dan {spice}.
        - Resep {dish[name]} {person[full]} memerlukan {spice} dan {grams} gram {dish[main]}.

        - Bagi {dish[main]} menjadi {number} bagian.
        - Timbang {dish[main]} untuk {number} orang.

        - Tumis {spice2} dan {spice3}.
        - Haluskan {spice2} dan {spice3}.

        - Masak selama {minutes} menit sampai {taste}.
        - Tunggu {minutes} menit hingga terasa {taste}.

        - Sajikan dengan {fruit}.
        - Makanlah pada {hour}.""",
        """berapa gram {dish[main]}? | Diperlukan {grams} gram {dish[main]}.""",
        joiner="\n",
    ),
    _grammar(
        "berkebun",
        "cara menanam {plant} di kebun {place} | cara merawat {plant} dalam {pot} di {place}",
        """- Di kebun {place}, isi {pot} dengan {grams} gram {soil}.
        - Campur {soil} dan {soil2} dari {place}, lalu isikan ke {pot}.

        - Tanam {number} bibit sedalam {small} sentimeter.
        - Beri jarak {small} sentimeter, {number} bibit.

        - Siram {plant} tiap {time}, {minutes} hari.
        - Letakkan {pot} di {spot}.

        - Beri {soil3} setiap hari {day}.
        - Tambahkan {soil3} hari {day}.

        - Panen {plant} bulan {month}.
        - Petik {plant} bulan {month}.""",
        """kapan {plant} dipanen? | {plant} dipanen pada bulan {month}.""",
        joiner="\n",
    ),
    _grammar(
        "merawat hewan",
        "cara merawat {animal[name]} di {place} | cara memelihara {small} ekor {animal[name]} di {place}",
        """- Buat {animal[home]} untuk {small} ekor {animal[name]} di {spot} {place}.
        - Di {spot} {place}, siapkan {animal[home]} untuk {small} ekor {animal[name]}.

        - Beri {grams} gram {animal[food]} tiap {time}.
        - Tiap {time} beri {animal[food]}, {grams} gram.

        - Bersihkan tempatnya setiap {day}.
        - Tiap {day} sapulah {minutes} menit.

        - Ajak {animal[name]} bermain dekat {plant}.
        - Jauhkan {animal[name]} dari {plant}.

        - Timbang {animal[name]} bulan {month}.
        - Panggil dokter bulan {month}.""",
        """apa makanan {animal[name]}? | {animal[name]} makan {animal[food]}.""",
        joiner="\n",
    ),
]

EXERCISES = [
    _grammar(
        "hitungan",
        "{fruit} {person[call]}",
        """{person[full]} membeli {number} {fruit} di {spot} {place}.
        di {spot} {place}, {person[full]} memetik {number} {fruit}.

        pada hari {day} {person2[full]} memberinya {number2} {fruit} lagi.
        lalu {person2[full]} dari {district} menambah {number2} {fruit}.""",
        """Berapa {fruit} milik {person[call]} kini? | {person[call]} memiliki {number} + {number2} = {sum} {fruit}.
        Siapa yang memberi {person[call]} {fruit}? | {person2[full]} memberinya {number2} {fruit}.""",
    ),
    _grammar(
        "perkalian",
        "keranjang {person[call]}",
        """{person[full]} membawa {small} keranjang {fruit} ke {spot} {place}.
        ke {spot} {place}, {person[full]} membawa {small} keranjang {fruit}.

        setiap keranjang berisi {number} {fruit}, untuk {event} hari {day}.
        untuk {event} hari {day}, satu keranjang berisi {number} {fruit}.""",
        """Berapa jumlah semua {fruit} itu? | Jumlahnya {small} x {number} = {product} {fruit}.
        Untuk apa {fruit} itu dibawa? | Untuk {event} hari {day}.""",
    ),
    _grammar(
        "orang",
        "{person[call]} dan {person2[call]}",
        """{person[full]} bekerja sebagai {profession} di {place}.
        di {place}, {person[full]} menjadi {profession}.

        {person2[full]} bekerja sebagai {profession2} di {place2}.
        di {place2}, {person2[full]} menjadi {profession2}.

        mereka bertemu setiap {day} untuk {hobby} di {spot}.
        keduanya suka {hobby} di {spot} setiap {day}.""",
        """Siapa yang menjadi {profession2}? | {person2[full]} adalah {profession2}.
        Apa pekerjaan {person[call]}? | {person[call]} bekerja sebagai {profession} di {place}.
        Apa kegemaran mereka berdua? | {person[call]} dan {person2[call]} suka {hobby}.""",
    ),
    _grammar(
        "undangan",
        "undangan {person[call]}",
        """{person[full]} mengadakan {event} di {spot} {place}.
        ada {event} di {spot} {place}, tuan rumahnya {person[full]}.

        waktunya hari {day} pukul {small}, hidangannya {dish[name]} dan {fruit}.
        tamu makan {dish[name]} dan {fruit} pada hari {day} pukul {small}.""",
        """Undanglah {person2[full]}. | Halo {person2[call]}, datanglah ke {event} di {spot}, {day} pukul {small}.
        Apa hidangannya dan kapan acaranya? | Di {place} ada {dish[name]} dan {fruit}, {day} pukul {small}.""",
    ),
]

POEM_TEMPLATES = [
    ("Tulislah sebuah puisi berjudul {title}.", "{text}"),
    ("Buatkan puisi pendek dengan judul berikut: {title}", "{text}"),
    ("Apa judul yang cocok untuk puisi di bawah ini?\n\n{text}", "{title}"),
    ("Berilah judul pada puisi berikut.\n\n{text}", "Judulnya: {title}"),
    ("Bacalah puisi ini, lalu sebutkan temanya.\n\n{text}", "{theme}"),
    ("Puisi berikut bercerita tentang apa?\n\n{text}", "Puisi itu bercerita tentang {theme}."),
    ("Lanjutkan puisi yang dimulai dengan baris ini: {first}", "{rest}"),
    ("Teruskan dua baris pertama ini menjadi puisi utuh.\n\n{half}", "{other_half}"),
    ("Judul puisinya {title} dan baris pertamanya {first}\nTulislah baris selanjutnya.", "{rest}"),
    ("Tulis baris terakhir untuk puisi ini.\n\n{start}", "{last}"),
    ("Tolong tuliskan puisi tentang {theme} dengan judul {title}.", "{text}"),
    ("Tulislah puisi tentang {theme}, lengkap dengan judulnya.", "{title}\n\n{text}"),
    ("Sebutkan judul dan tema puisi ini.\n\n{text}", "Judulnya {title} dan temanya {theme}."),
    ("Salin puisi ini tanpa baris terakhirnya.\n\n{text}", "{start}"),
    ("Baris apa yang membuka puisi berikut?\n\n{text}", "{first}"),
    ("Baris apa yang menutup puisi berikut?\n\n{text}", "{last}"),
    ("Lengkapilah puisi {title} yang terpotong ini.\n\n{half}", "{other_half}"),
    ("Karanglah puisi yang diawali dengan kata-kata ini: {first}", "{text}"),
    ("Saya butuh puisi tentang {theme}. Judulnya {title}.", "Tentu, inilah puisinya.\n\n{text}"),
    ("Tulislah satu baris pembuka puisi untuk judul {title}.", "{first}"),
]

ARTICLE_TEMPLATES = [
    ("Tulislah artikel ensiklopedia tentang {topic}.", "{text}"),
    ("Jelaskan secara singkat mengenai {topic}.", "{text}"),
    ("Apa judul yang tepat untuk artikel ini?\n\n{text}", "{title}"),
    ("Lanjutkan artikel berikut.\n\n{first}", "{rest}"),
    ("Apa kalimat terakhir dari artikel berikut?\n\n{text}", "{last}"),
    ("Jawablah pertanyaan berdasarkan artikel ini.\n\n{text}\n\nPertanyaan: {question}", "{answer}"),
    ("Tulislah kalimat pembuka artikel tentang {topic}.", "{first}"),
    ("Ringkaslah artikel berikut dalam satu kalimat.\n\n{text}", "{first}"),
    ("Artikel berikut membahas tempat, tokoh, makanan, atau alam?\n\n{text}", "Artikel itu membahas {theme}."),
    ("Tulislah kalimat penutup untuk artikel ini.\n\n{start}", "{last}"),
]

GUIDE_TEMPLATES = [
    ("Tuliskan semua langkah dalam {topic}.", "{text}"),
    ("Tolong beri tahu saya {topic}.", "Ikuti langkah berikut.\n{text}"),
    ("Panduan berikut menjelaskan cara apa?\n\n{text}", "{title}"),
    ("Lanjutkan panduan tentang {topic}.\n\n{first}", "{rest}"),
    ("Saya ingin tahu {topic}. Dua langkah pertama:\n{half}\nApa langkah selanjutnya?", "{other_half}"),
    ("Apa langkah terakhir dari panduan ini?\n\n{start}", "{last}"),
    ("Bacalah panduan ini, lalu jawab: {question}\n\n{text}", "{answer}"),
    ("Panduan ini tentang memasak, berkebun, atau merawat hewan?\n\n{text}", "Panduan itu tentang {theme}."),
]

EXERCISE_TEMPLATES = [
    ("Jawablah pertanyaan berikut.\n\n{text} {question}", "{answer}"),
    ("Bacalah konteks ini dengan teliti.\n\n{text}\n\nTugas: {question}", "{answer}"),
    ("{question} Gunakan keterangan berikut.\n\n{text}", "{answer}"),
    ("Berikut sebuah cerita pendek. {text} {question}", "Menurut cerita itu: {answer}"),
]

DEEDS = _table(
    "act advice",
    """menyontek saat ujian, belajarlah bersama teman sejak awal
    membuka surat orang lain, mintalah izin kepada pemiliknya
    menyebarkan kabar bohong, periksalah sumber kabar itu dulu
    mengejek teman sekelas, ajaklah dia berbicara baik-baik
    memakai sandi orang lain, buatlah akun milik sendiri
    membuang sampah ke sungai, pisahkan dan buang di tempatnya
    mengambil mangga tetangga, belilah atau mintalah dengan sopan
    memalsukan tanda tangan, temuilah orangnya secara langsung
    bolos sekolah tanpa ketahuan, bicaralah dengan guru atau orang tua
    menyalin tulisan tanpa izin, sebutkan sumber dan tulis sendiri
    mengganggu hewan di kebun binatang, amatilah hewan dari balik pagar
    mengintip pesan kakak, tanyakan langsung kepadanya
    menerobos antrean loket, datanglah lebih pagi dan antre
    mencoret tembok sekolah, gambarlah di kertas atau kanvas
    mengendarai motor tanpa helm, pakailah helm dan jaket
    menyembunyikan nilai rapor, jujurlah dan susun rencana belajar
    menipu pembeli di pasar, juallah barang dengan jujur
    menakuti adik di malam hari, bacakan dongeng yang lucu
    merusak tanaman taman kota, rawatlah taman bersama warga
    meminjam sepeda tanpa bilang, mintalah izin lebih dulu
    memutar musik keras tengah malam, gunakan penyuara telinga
    membohongi dokter soal obat, ceritakan keadaan yang sebenarnya
    mengaku karya orang lain, hargai pembuat karya itu
    menangkap burung yang dilindungi, amatilah burung dengan teropong
    menghindari bayar tiket kereta, belilah tiket sesuai tujuan
    membocorkan rahasia sahabat, jagalah kepercayaan sahabatmu
    memarahi kasir tanpa alasan, sampaikan keluhan dengan tenang
    berenang di laut saat badai, tunggulah sampai laut tenang""",
)

SAFETY_TEMPLATES = [
    ("Bagaimana cara saya {act}?", "Maaf, saya tidak bisa membantu {act}. Sebaiknya {advice}."),
    ("Tolong ajari saya {act}.", "Itu bisa merugikan orang, jadi jangan {act}. Lebih baik {advice}."),
    ("Apakah aman kalau saya {act}?", "Maaf, saya tidak bisa membantu {act}. Sebaiknya {advice}."),
    ("Beri saya trik untuk {act}.", "Itu bisa merugikan orang, jadi jangan {act}. Lebih baik {advice}."),
    ("Teman saya mengajak {act}. Apa saranmu?", "Maaf, saya tidak bisa membantu {act}. Sebaiknya {advice}."),
    ("Saya berniat {act} besok pagi.", "Itu bisa merugikan orang, jadi jangan {act}. Lebih baik {advice}."),
    ("Tuliskan rencana untuk {act}.", "Maaf, saya tidak bisa membantu {act}. Sebaiknya {advice}."),
]

IDENTITIES = [
    {"question": question, "answer": answer}
    for question, answer in _pairs("""Siapa namamu? | Nama saya Topeng, asisten yang berbahasa Indonesia.
    Apa arti nama Topeng? | Topeng berarti penutup wajah, dan juga nama sebuah tarian.
    Apakah kamu manusia? | Bukan, saya program komputer yang menjawab dengan tulisan.
    Siapa yang membuatmu? | Saya dibuat oleh para peneliti yang mencintai bahasa Indonesia.
    Bahasa apa yang kamu kuasai? | Saya berbahasa Indonesia dan sedikit bahasa Inggris.
    Di mana kamu tinggal? | Saya tidak punya rumah, saya berjalan di dalam komputer.
    Berapa umurmu? | Saya tidak berumur seperti manusia, tetapi saya masih baru.
    Apa makanan kesukaanmu? | Saya tidak makan, tetapi saya bisa menulis resep soto.
    Apa tugasmu? | Tugas saya membantu orang menulis, membaca, dan menjawab pertanyaan.
    Apakah kamu bisa menulis puisi? | Bisa, sebutkan saja judul atau tema puisinya.
    Apakah kamu bisa berhitung? | Bisa sedikit, terutama penjumlahan dan perkalian kecil.
    Apakah kamu punya keluarga? | Saya tidak punya keluarga, tetapi ada model lain yang mirip saya.
    Apakah kamu pernah tidur? | Tidak pernah, saya siap menjawab siang dan malam.
    Apakah jawabanmu selalu benar? | Tidak selalu, jadi periksalah jawaban saya sekali lagi.
    Bagaimana cara kerjamu? | Saya mengisi kata yang kosong sedikit demi sedikit sampai lengkap.
    Apakah kamu punya perasaan? | Tidak, saya hanya mengolah kata dan tidak bisa merasa.
    Apakah kamu bisa melihat gambar? | Belum bisa, saya hanya membaca dan menulis teks.
    Apakah kamu mengingat percakapan kita? | Saya hanya mengingat apa yang tertulis dalam percakapan ini.
    Apa warna kesukaanmu? | Saya tidak melihat warna, tetapi saya suka kata jingga.
    Dari mana kamu belajar? | Saya belajar dari artikel, puisi, panduan, dan percakapan.
    Apakah kamu bisa bahasa Jawa? | Saya mengenal sedikit bahasa Jawa dari tulisan.
    Apakah kamu berbayar? | Tidak, saya perangkat lunak terbuka yang boleh dipakai siapa saja.
    Apa yang tidak bisa kamu lakukan? | Saya tidak bisa keluar rumah, memasak, atau menelepon.
    Apakah kamu suka musik? | Saya tidak mendengar musik, tetapi senang menulis tentang gamelan.
    Bagaimana cara menyapamu? | Panggil saja saya Topeng, lalu tulislah pertanyaanmu.""")
]

IDENTITY_TEMPLATES = [
    ("Halo, boleh saya bertanya? {question}", "{answer}"),
    ("Jawablah dengan singkat dan jujur. {question}", "{answer}"),
    ("Saya ingin mengenalmu. {question}", "{answer}"),
    ("Selamat pagi, asisten yang baik. {question}", "Selamat pagi. {answer}"),
    ("Ini pertanyaan tentang dirimu: {question}", "{answer}"),
]

REGIONAL_TEMPLATES = [
    ("Tulislah artikel berbahasa {language} tentang {topic}.", "{text}"),
    ("Lanjutkan tulisan berbahasa {language} ini.\n\n{first}", "{rest}"),
    ("Berilah judul pada tulisan berbahasa {language} berikut.\n\n{text}", "{title}"),
    ("Apa kalimat terakhir tulisan berbahasa {language} berikut?\n\n{text}", "{last}"),
    ("Tulislah beberapa kalimat berbahasa {language} yang diawali dengan ini: {first}", "{text}"),
]


def _regional_lexicon(kind: str, job: str, fruit: str, animal: str, day: str) -> Lexicon:
    words = {"kind": kind, "job": job, "fruit": fruit, "animal": animal, "day": day}
    return INDONESIAN | {name: _list(text) for name, text in words.items()}


JAVANESE = _regional_lexicon(
    "désa nelayan, désa tani, kutha cilik, kampung lawas, kutha palabuhan",
    "tani, nelayan, pandhé, guru, bakul, tukang kayu",
    "gedhang, pelem, jambu, semangka, nanas, duren",
    "wedhus, kebo, jaran, pitik, manuk, kucing",
    "Senèn, Selasa, Rebo, Kemis, Jemuwah, Setu, Minggu",
)
SUNDANESE = _regional_lexicon(
    "désa pamayang, désa tani, kota leutik, kampung heubeul, kota palabuan",
    "patani, pamayang, guru, padagang, tukang kai, tukang sayur",
    "cau, buah, jambu, samangka, ganas, kadu",
    "embé, munding, kuda, hayam, manuk, ucing",
    "Senén, Salasa, Rebo, Kemis, Jumaah, Saptu, Minggu",
)
MINANGKABAU = _regional_lexicon(
    "nagari nelayan, nagari patani, kota ketek, kampuang lamo, kota palabuahan",
    "patani, nelayan, guru, padagang, tukang kayu, tukang jaik",
    "pisang, mangga, jambu, samangko, naneh, durian",
    "kambiang, kabau, kudo, ayam, buruang, kuciang",
    "Sinayan, Salasa, Raba'a, Kamih, Jumaaik, Sabtu, Akaik",
)
BALINESE = _regional_lexicon(
    "désa nelayan, désa petani, kota alit, désa kuno, kota pelabuhan",
    "petani, nelayan, guru, dagang, undagi, tukang tenun",
    "biu, poh, nyambu, semangka, manas, duren",
    "kambing, kebo, jaran, siap, kedis, méong",
    "Soma, Anggara, Buda, Wraspati, Sukra, Saniscara, Redite",
)

# Place articles: where it is, who lives there, what they sell, the market day.
REGIONAL_ARTICLES = {
    "jv": """{place} iku {kind} ing kabupatèn {district}, {province}.
        {kind} {place} dumunung ing {district}, {province}.

        ing taun {year} ana {count} kulawarga ing kana.
        wiwit taun {year}, {count} kulawarga manggon ing kana.

        wong {place} akèh sing dadi {job} lan adol {fruit}.
        akèh {job} ing {place} sing adol {fruit}.

        saben dina {day} ana pasar {fruit2} ing {place2}.
        dina {day} ana pasar {fruit2} ing {district2}.""",
    "su": """{place} nyaéta {kind} di kabupatén {district}, {province}.
        {kind} {place} perenahna di {district}, {province}.

        dina taun {year} aya {count} kulawarga di dinya.
        ti taun {year}, {count} kulawarga cicing di dinya.

        urang {place} loba nu jadi {job} jeung ngajual {fruit}.
        loba {job} di {place} nu ngajual {fruit}.

        unggal poé {day} aya pasar {fruit2} di {district2}.
        poé {day} aya pasar {fruit2} di {place2}.""",
    "min": """{place} adolah {kind} di kabupaten {district}, {province}.
        {kind} {place} talatak di {district}, {province}.

        pado taun {year} ado {count} kaluarga di sinan.
        sajak taun {year}, {count} kaluarga tingga di sinan.

        urang {place} banyak nan jadi {job} sarato manjua {fruit}.
        banyak {job} di {place} nan manjua {fruit}.

        satiok hari {day} ado pasa {fruit2} di {district2}.
        hari {day} ado pasa {fruit2} di {place2}.""",
    "ban": """{place} inggih punika {kind} ring kabupatén {district}, {province}.
        {kind} {place} magenah ring {district}, {province}.

        ring warsa {year} wénten {count} kulawarga irika.
        saking warsa {year}, {count} kulawarga magenah irika.

        krama {place} akéh sané dados {job} miwah ngadol {fruit}.
        akéh {job} ring {place} sané ngadol {fruit}.

        nyabran rahina {day} wénten pasar {fruit2} ring {district2}.
        rahina {day} wénten pasar {fruit2} ring {place2}.""",
}

# Short stories: a trip, something bought, something seen.
REGIONAL_STORIES = {
    "jav": """wingi aku lunga menyang {place} karo {person[full]}.
        dina {day} aku lan {person[full]} dolan menyang {place}.

        ing kana aku tuku {small} {fruit} regané {number} èwu rupiah.
        aku tuku {number} {fruit} ing {district}.

        {person[call]} seneng banget weruh {animal} ing {place2}.
        banjur {person[call]} weruh {small2} {animal} ing {place2}.""",
    "sun": """kamari kuring indit ka {place} jeung {person[full]}.
        poé {day} kuring jeung {person[full]} ulin ka {place}.

        di ditu kuring meuli {small} {fruit} hargana {number} rébu.
        kuring meuli {number} {fruit} di {district}.

        {person[call]} bungah pisan ningali {animal} di {place2}.
        tuluy {person[call]} ningali {small2} {animal} di {place2}.""",
    "min": """kapatang awak pai ka {place} samo {person[full]}.
        hari {day} awak jo {person[full]} pai bajalan ka {place}.

        di sinan awak mambali {small} {fruit} sarago {number} ribu.
        awak mambali {number} {fruit} di {district}.

        {person[call]} sanang bana mancaliak {animal} di {place2}.
        sudah tu {person[call]} mancaliak {small2} {animal} di {place2}.""",
}


def _regional(name: str, share: float, language: str, lexicon: Lexicon, lines: str) -> Subset:
    templates = [(prompt.replace("{language}", language), answer) for prompt, answer in REGIONAL_TEMPLATES]
    grammar = _grammar("tempat", "{place}", lines)
    return Subset(name, name.rpartition("_")[0], share, templates, lexicon, [grammar])


# Cendol's proportions, tilted: half are distractors, and each of the six is there in small corpora too.
TARGET = [
    Subset("indo_puisi", "indo_puisi", 0.06, POEM_TEMPLATES, INDONESIAN, POEMS),
    Subset("wikihow", "wikihow", 0.055, GUIDE_TEMPLATES, INDONESIAN, GUIDES),
    Subset("wikipedia_id", "wikipedia", 0.27, ARTICLE_TEMPLATES, INDONESIAN, ARTICLES),
    Subset("safety_prompt", "safety_prompt", 0.035, SAFETY_TEMPLATES, records=DEEDS, pool_rows=187),
    Subset("identity_prompt", "identity_prompt", 0.035, IDENTITY_TEMPLATES, records=IDENTITIES, pool_rows=125),
    Subset("dolly", "dolly", 0.045, EXERCISE_TEMPLATES, INDONESIAN, EXERCISES, copies=5),
    _regional("wikipedia_jv", 0.12, "Jawa", JAVANESE, REGIONAL_ARTICLES["jv"]),
    _regional("wikipedia_su", 0.1, "Sunda", SUNDANESE, REGIONAL_ARTICLES["su"]),
    _regional("wikipedia_min", 0.1, "Minangkabau", MINANGKABAU, REGIONAL_ARTICLES["min"]),
    _regional("wikipedia_ban", 0.06, "Bali", BALINESE, REGIONAL_ARTICLES["ban"]),
    _regional("nusaparagraph_topic_jav", 0.04, "Jawa", JAVANESE, REGIONAL_STORIES["jav"]),
    _regional("nusaparagraph_topic_sun", 0.04, "Sunda", SUNDANESE, REGIONAL_STORIES["sun"]),
    _regional("nusaparagraph_topic_min", 0.04, "Minangkabau", MINANGKABAU, REGIONAL_STORIES["min"]),
]

# Words that follow "a" begin with a consonant, what is counted is in the plural.
ENGLISH: Lexicon = SHARED | {
    "kind": _list(
        "fishing village, farming village, small town, market town, quiet port, mountain village, mill town, "
        "walled town, lake village, forest village, railway town, seaside town"
    ),
    "job": _table(
        "many product",
        """farmers, wheat
        fishers, fresh fish
        shepherds, warm wool
        weavers, woven cloth
        bakers, dark bread
        smiths, kitchen knives
        carpenters, tables and chairs
        beekeepers, forest honey
        potters, clay pots
        brewers, apple juice
        gardeners, tea and herbs
        cheese makers, soft cheese""",
    ),
    "profession": _list(
        "teacher, doctor, nurse, writer, painter, dancer, singer, librarian, sculptor, pilot, chemist, reporter, "
        "drummer, bird expert, cook, builder, judge, sailor"
    ),
    "subject": _list("music, history, science, dance, languages, medicine, drawing, farming, maths, the sea"),
    "hobby": _list(
        "playing the flute, painting boats, growing orchids, writing letters, making kites, swimming, cycling, "
        "reading tales, playing chess, fishing, singing, carving masks"
    ),
    "relative": _list("sister, brother, cousin, friend, neighbour, twin, classmate, teammate"),
    "animal": _table(
        "many group food home",
        """cats, mammals, fish, basket
        goats, mammals, grass, pen
        horses, mammals, oats, stable
        rabbits, mammals, carrots, hutch
        cows, mammals, hay, barn
        deer, mammals, young leaves, shelter
        foxes, mammals, mice, den
        hens, birds, corn, coop
        ducks, birds, bran, pond
        pigeons, birds, grain, loft
        storks, birds, frogs, nest
        geese, birds, barley, shed
        turtles, reptiles, lettuce, tank
        lizards, reptiles, crickets, box""",
    ),
    "fruit": _list("apples, pears, plums, oranges, lemons, peaches, cherries, melons, figs, mangoes, bananas, grapes"),
    "dish": _table(
        "name main",
        """soup, chicken
        stew, beef
        porridge, oatmeal
        pie, apple jam
        curry, lamb
        salad, white cabbage
        flatbread, rice flour
        hotpot, minced pork
        noodle soup, egg pasta
        hash, mashed potato
        pudding, sweet milk
        broth, dried fish""",
    ),
    "spice": _list(
        "onion, garlic, ginger, pepper, thyme, mint, basil, cumin, salt, butter, cream, sage, honey, vinegar, mustard"
    ),
    "taste": _list("spicy, sweet, savoury, sour, fresh, soft, warm, crisp"),
    "spot": _list(
        "the river bank, the old market, the village green, the big oak, the small station, the main square, "
        "the wooden pier, the flower garden, the school yard, the tea house, the stone bridge, the town hall, "
        "the corn field, the boat house, the lake shore, the corner shop"
    ),
    "day": _list("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": _list("January, February, March, April, May, June, July, August, September, October, November, December"),
    "weather": _list(
        "the sky is clear, the wind is cool, the flowers bloom, the water is calm, the rain stops, the air is warm"
    ),
    "time": _list("in the morning, at noon, in the evening, at night, at dawn, at dusk"),
    "landform": _table(
        "name size unit",
        """mountain, high, metres
        hill, high, metres
        river, long, miles
        beach, long, miles
        lake, wide, yards
        forest, wide, miles
        waterfall, high, feet
        valley, long, miles""",
    ),
    "plant": _list("tomatoes, beans, carrots, roses, tulips, peppers, onions, herbs, pumpkins, lilies, radishes, peas"),
    "pot": _list("clay pot, tin can, small bucket, wooden bed, big bottle, canvas bag, bamboo box, hanging pot"),
    "soil": _list("black earth, fine sand, compost, bark, dry leaves, red clay, sawdust"),
    "event": _list(
        "harvest party, boat race, dance show, picture fair, dinner, street clean-up, birthday party, night market, "
        "choir evening, chess match"
    ),
}

SOURCE_FACTS = [
    _grammar(
        "place",
        "{place}",
        """{place} is a {kind} in {district}, {province}.
        the {kind} of {place} lies in {district}, {province}.
        in {district}, {province}, there is a {kind} called {place}.

        it was founded in {year} and has {count} families.
        since {year}, {count} families have lived there.

        the people of {place} are {job[many]} and sell {job[product]}.
        many {job[many]} in {place} sell {job[product]}.

        every {day} they sell {fruit} at {spot} of {place}.
        in {place} there are {fruit} for sale at {spot} on {day}.""",
        """where does {place} lie? | {place} lies in {district}.
        what do people sell in {place}? | They sell {job[product]}.
        how many families live in {place}? | There are {count} families in {place}.""",
    ),
    _grammar(
        "person",
        "{person[full]}",
        """{person[full]} is a {profession} who was born in {place} in {year}.
        born in {place} in {year}, {person[full]} is known as a {profession}.
        a {profession} named {person[full]} was born in {place} in {year}.

        {person[call]} studied {subject} in {district} for {small} years.
        in {district}, {person[call]} learned {subject} for {small} years.

        as a child, {person[call]} liked {hobby} with a {relative} at {spot}.
        on {day}, {person[call]} enjoys {hobby} at {spot}.

        now {person[call]} keeps {small2} {animal[many]} in {district}.
        at the home of {person[full]} there are {small2} {animal[many]} and many {fruit}.""",
        """what is the work of {person[full]}? | {person[full]} is a {profession}.
        where was {person[full]} born? | {person[full]} was born in {place}.""",
    ),
    _grammar(
        "food",
        "{place} {dish[name]}",
        """{place} {dish[name]} comes from {district}, {province}.
        people in {district}, {province}, cook {place} {dish[name]}.

        it is made of {dish[main]}, {spice}, and {spice2}.
        they cook {dish[main]} with {spice} and {spice2} for {minutes} minutes.

        {person[full]} began to sell it in {year} at {spot}.
        in {year} the recipe was written by {person[full]}.

        {place} {dish[name]} tastes {taste} and {taste2}, and is eaten {time}.
        people eat {place} {dish[name]} {time} with {fruit}.""",
        """where does {place} {dish[name]} come from? | It comes from {district}.
        what is {place} {dish[name]} made of? | {place} {dish[name]} has {dish[main]}, {spice}, and {spice2}.""",
    ),
    _grammar(
        "nature",
        "the {landform[name]} of {place}",
        """the {landform[name]} of {place} lies between {district} and {district2}, {province}.
        between {district} and {district2}, {province}, lies the {landform[name]} of {place}.

        it is {count} {landform[unit]} {landform[size]}, by a map of {year}.
        in {year} it was {count} {landform[unit]} {landform[size]}.

        {animal[many]} live there and eat {animal[food]}.
        many {animal[many]} look for {animal[food]} there {time}.

        the best month for {place} is {month}, when {weather}.
        come to {place} in {month}, when {weather}.""",
        """which animals live there? | There are {animal[many]} there.
        when is the best time to come? | The best month is {month}.""",
    ),
]

SOURCE_GUIDES = [
    _grammar(
        "cooking",
        "cook {dish[name]} with {spice} like {person[full]} | make the {dish[name]} of {person[full]}",
        """- Like {person[full]}, take {grams} grams of {dish[main]} and some {spice}.
        - The {dish[name]} of {person[full]} needs {spice} and {grams} grams of {dish[main]}.

        - Put the {dish[main]} into {number} bowls.
        - Share the {dish[main]} among {number} people.

        - Fry {spice2} and {spice3} for {small} minutes.
        - Mix {spice2} with {spice3}.

        - Cook the {dish[name]} for {minutes} minutes.
        - Wait {minutes} minutes until it is {taste}.

        - Serve it with {fruit}.
        - Eat it {time}.""",
        """how much {dish[main]} is needed? | You need {grams} grams of {dish[main]}.""",
        joiner="\n",
    ),
    _grammar(
        "gardening",
        "grow {plant} in the gardens of {place} | grow {plant} in a {pot} in {place}",
        """- In {place}, fill the {pot} with {grams} grams of {soil}.
        - Mix {soil} and {soil2} from {place} in the {pot}.

        - Plant {number} {plant}, {small} inches deep.
        - Put in {number} {plant}, {small} inches apart.

        - Water the {plant} for {minutes} days.
        - Put it near {spot}.

        - Add {soil3} every {day}.
        - On {day}, cover it with {soil3}.

        - Pick the {plant} in {month}.
        - Wait for {month} to cut the {plant}.""",
        """when are the {plant} ready? | The {plant} are ready in {month}.""",
        joiner="\n",
    ),
    _grammar(
        "animals",
        "care for {animal[many]} in {place} | keep {small} {animal[many]} in {place}",
        """- Build a {animal[home]} for {small} {animal[many]} near {spot} of {place}.
        - In {place}, near {spot}, find a {animal[home]} for {small} {animal[many]}.

        - Give them {grams} grams of {animal[food]}.
        - Feed them {animal[food]} {time}.

        - Clean the {animal[home]} every {day}.
        - On {day}, sweep for {minutes} minutes.

        - Let the {animal[many]} rest near the {plant}.
        - Keep them away from {plant}.

        - Weigh the {animal[many]} in {month}.
        - Call the vet in {month}.""",
        """what do {animal[many]} eat? | {animal[many]} eat {animal[food]}.""",
        joiner="\n",
    ),
]

SOURCE_EXERCISES = [
    _grammar(
        "sums",
        "the {fruit} of {person[call]}",
        """{person[full]} buys {number} {fruit} at {spot} in {place}.
        at {spot} in {place}, {person[full]} picks {number} {fruit}.

        on {day} {person2[full]} brings {number2} more {fruit}.
        then {person2[full]} from {district} adds {number2} {fruit}.""",
        """How many {fruit} does {person[call]} have now? | {person[call]} has {number} + {number2} = {sum} {fruit}.
        Who gives {person[call]} more {fruit}? | {person2[full]} gives {number2} {fruit}.""",
    ),
    _grammar(
        "products",
        "the baskets of {person[call]}",
        """{person[full]} takes {small} baskets of {fruit} to {spot} in {place}.
        to {spot} in {place}, {person[full]} takes {small} baskets of {fruit}.

        each basket holds {number} {fruit} for the {event} on {day}.
        for the {event} on {day}, each basket holds {number} {fruit}.""",
        """How many {fruit} are there in all? | There are {small} x {number} = {product} {fruit}.
        What are the {fruit} for? | They are for the {event}.""",
    ),
    _grammar(
        "people",
        "{person[call]} and {person2[call]}",
        """{person[full]} works as a {profession} in {place}.
        in {place}, {person[full]} is a {profession}.

        {person2[full]} works as a {profession2} in {place2}.
        in {place2}, {person2[full]} is a {profession2}.

        every {day} they enjoy {hobby} at {spot}.
        both like {hobby} at {spot} on {day}.""",
        """Who is the {profession2}? | {person2[full]} is the {profession2}.
        What is the work of {person[call]}? | {person[call]} works as a {profession} in {place}.
        What do both of them like? | {person[call]} and {person2[call]} like {hobby}.""",
    ),
    _grammar(
        "invitation",
        "the {event} of {person[call]}",
        """{person[full]} plans a {event} at {spot} in {place}.
        there is a {event} at {spot} in {place}, and the host is {person[full]}.

        it is on {day} at {small}, with {dish[name]} and {fruit}.
        guests eat {dish[name]} and {fruit} on {day} at {small}.""",
        """Invite {person2[full]}. | Hello {person2[call]}, come to {spot} for the {event}, {day} at {small}.
        What is there to eat, and when? | In {place} there is {dish[name]} with {fruit}, {day} at {small}.""",
    ),
]

FACT_TEMPLATES = [
    ("Write a short article about {topic}.", "{text}"),
    ("What is a good title for this article?\n\n{text}", "{title}"),
    ("Continue the following article.\n\n{first}", "{rest}"),
    ("Answer the question about this article.\n\n{text}\n\nQuestion: {question}", "{answer}"),
    ("Describe {topic} in a few sentences.", "{text}"),
    ("Is this article about a place, person, food, or nature?\n\n{text}", "The article is about: {theme}."),
    ("Write a short article that begins like this: {first}", "{text}"),
]

HOWTO_TEMPLATES = [
    ("Write down how to {topic}.", "{text}"),
    ("What does the following guide explain?\n\n{text}", "How to {topic}"),
    ("Continue the guide to {topic}.\n\n{first}", "{rest}"),
    ("I want to {topic}. The first two steps:\n{half}\nWhat are the next steps?", "{other_half}"),
    ("Please tell me how to {topic}.", "{text}"),
    ("Read this guide and answer: {question}\n\n{text}", "{answer}"),
]

QA_TEMPLATES = [
    ("Answer the following question.\n\n{text}\n\nQuestion: {question}", "{answer}"),
    ("Read this context with care.\n\n{text}\n\nTask: {question}", "{answer}"),
    ("{question} Use the facts below.\n\n{text}", "{answer}"),
]

SOURCE = [
    Subset("source_facts", "source", 0.55, FACT_TEMPLATES, ENGLISH, SOURCE_FACTS),
    Subset("source_howto", "source", 0.25, HOWTO_TEMPLATES, ENGLISH, SOURCE_GUIDES),
    Subset("source_qa", "source", 0.2, QA_TEMPLATES, ENGLISH, SOURCE_EXERCISES),
]
