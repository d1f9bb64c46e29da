"""Indonesian: Cendol's six subsets, made up."""

from topeng.corpus.world import SHARED, Lexicon, Subset, following, grammar, open_, right, table, words
from topeng.corpus.world.identity import INDONESIAN as IDENTITIES
from topeng.corpus.world.identity import records

INDONESIAN: Lexicon = SHARED | {
    "kind": words("desa nelayan, desa petani, kampung tua, kota kecil, kota pelabuhan, kota pasar, desa wisata"),
    "profession": words(
        "guru, dokter, perawat, penulis, pelukis, penari, penyanyi, arsitek, pilot, wartawan, petani, nelayan, "
        "penjahit, pedagang, juru masak, tukang kayu"
    ),
    "hobby": words(
        "melukis, menulis, berenang, bersepeda, membaca, memancing, menyanyi, menari, memasak, berkebun, "
        "bermain catur, bermain suling"
    ),
    "animal": table(
        "name group food",
        """kucing, mamalia, ikan
        kambing, mamalia, rumput
        kerbau, mamalia, jerami
        kuda, mamalia, gandum
        kelinci, mamalia, wortel
        sapi, mamalia, daun muda
        ayam, burung, jagung
        bebek, burung, dedak
        merpati, burung, beras merah
        bangau, burung, katak
        kadal, reptil, jangkrik
        kura-kura, reptil, selada""",
    ),
    "fruit": words("mangga, pisang, jeruk, nanas, pepaya, salak, durian, semangka, melon, jambu, apel, anggur"),
    "thing": words("buku, kursi, meja, topi, tas, sepatu, payung, lampu, baju, piring, gelas, pensil, sepeda, bola"),
    "quality": table(
        "of opposite",
        """besar, kecil
        kecil, besar
        panas, dingin
        dingin, panas
        baru, lama
        lama, baru
        tinggi, rendah
        rendah, tinggi
        panjang, pendek
        pendek, panjang
        berat, ringan
        ringan, berat
        mahal, murah
        murah, mahal
        kuat, lemah
        lemah, kuat
        bersih, kotor
        kotor, bersih
        basah, kering
        kering, basah
        penuh, kosong
        kosong, penuh""",
    ),
    "dish": table(
        "name main",
        """soto, ayam
        sate, daging sapi
        bubur, beras
        pepes, ikan mas
        gulai, kambing
        rendang, daging
        pecel, sayur
        bakso, daging giling
        perkedel, kentang
        kolak, ubi manis""",
    ),
    "spice": words("bawang, jahe, kunyit, serai, ketumbar, kemiri, cabai, santan, lada, gula"),
    "taste": words("pedas, manis, gurih, asam, segar, lembut, hangat, renyah"),
    "spot": words("tepi sungai, pasar lama, lapangan desa, stasiun, dermaga, taman bunga, kebun teh, tepi danau"),
    "day": words("Senin, Selasa, Rabu, Kamis, Jumat, Sabtu, Minggu"),
    "month": words("Januari, Februari, Maret, April, Mei, Juni, Juli, Agustus, September, Oktober, November, Desember"),
    "time": words("pagi, siang, sore, malam"),
    "landform": words("gunung, bukit, sungai, pantai, danau, hutan, pulau"),
    "plant": words("tomat, bayam, kangkung, terung, mentimun, seledri, kemangi, melati, mawar, kacang"),
    "subject": table(
        "name theme",
        """hujan, alam
        angin, alam
        pelangi, alam
        bunga, alam
        ombak, laut
        camar, laut
        bulan, malam
        bintang, malam
        ibu, keluarga
        ayah, keluarga
        nenek, keluarga
        kereta, perjalanan
        perahu, perjalanan""",
    ),
    "verb": words("datang, pergi, menunggu, berjalan, menyapa, memanggil, pulang, bermimpi"),
    "colour": words("biru, merah, ungu, kuning, putih, hijau, hitam, jingga"),
    "sky": words("langit, awan, kabut, cahaya, daun, laut"),
    "gift": words("rindu, harapan, lagu, doa, senyuman, janji, cerita, kenangan"),
    "capital": table(
        "of name",
        """Indonesia, Jakarta
        Malaysia, Kuala Lumpur
        Thailand, Bangkok
        Filipina, Manila
        Vietnam, Hanoi
        Jepang, Tokyo
        Korea Selatan, Seoul
        India, New Delhi
        Mesir, Kairo
        Prancis, Paris
        Inggris, London
        Italia, Roma
        Spanyol, Madrid
        Jerman, Berlin
        Jawa Barat, Bandung
        Jawa Tengah, Semarang
        Jawa Timur, Surabaya
        Bali, Denpasar""",
    ),
    "hue": table(
        "of name",
        """darah, merah
        salju, putih
        arang, hitam
        rumput, hijau
        pisang, kuning
        wortel, jingga
        terung, ungu
        langit, biru""",
    ),
}
INDONESIAN |= {
    "next_day": following(INDONESIAN["day"]),
    "next_month": following(INDONESIAN["month"]),
}

POEMS = [
    grammar(
        "{subject[theme]}",
        "{subject[name]} di {place}",
        """{subject[name]} {verb} di {place}
        di {place} {subject[name]} {verb}

        {colour} warna {sky} {district}
        {sky} {district} berwarna {colour}

        {person[call]} membawa {gift} dan {gift2}
        ada {gift} dan {gift2} untuk {person[call]}""",
        """siapa nama orang dalam puisi ini? | Namanya {person[call]}.
        di mana {subject[name]} itu? | {subject[name]} ada di {place}.
        apa warna {sky} itu? | {sky} itu berwarna {colour}.""",
        joiner="\n",
    ),
]

ARTICLES = [
    grammar(
        "tempat",
        "{place}",
        """{place} adalah {kind} di {district}.
        di {district} ada {kind} bernama {place}.

        ada {count} keluarga di {place}.
        {count} keluarga tinggal di sana.

        warganya menjual {fruit} setiap hari {day}.
        setiap hari {day} mereka menjual {fruit}.""",
        """di mana {place}? | {place} ada di {district}.
        apa yang dijual warga {place}? | Warga {place} menjual {fruit}.
        berapa keluarga tinggal di {place}? | Ada {count} keluarga di {place}.
        kapan warga {place} berjualan? | Mereka berjualan setiap hari {day}.""",
    ),
    grammar(
        "tokoh",
        "{person[full]}",
        """{person[full]} adalah {profession} dari {place}.
        {person[full]} lahir di {place} dan menjadi {profession}.

        {person[call]} suka {hobby} di {spot} {district}.
        di {spot} {district}, {person[call]} gemar {hobby}.

        di rumahnya ada {small} ekor {animal[name]}.
        {person[call]} memelihara {small} ekor {animal[name]}.""",
        """apa pekerjaan {person[full]}? | {person[full]} adalah {profession}.
        dari mana {person[full]} berasal? | {person[full]} berasal dari {place}.
        apa kegemaran {person[call]}? | {person[call]} suka {hobby}.
        hewan apa yang dipelihara {person[call]}? | {person[call]} memelihara {animal[name]}.""",
    ),
    grammar(
        "makanan",
        "{dish[name]} {place}",
        """{dish[name]} {place} berasal dari {district}.
        orang {district} memasak {dish[name]} {place}.

        bahannya {dish[main]} dan {spice}.
        isinya {dish[main]}, bumbunya {spice}.

        {person[full]} menjualnya di {spot}.
        di {spot}, {person[full]} membuatnya.""",
        """dari mana asal {dish[name]} {place}? | {dish[name]} {place} berasal dari {district}.
        apa bahan {dish[name]} {place}? | Bahannya {dish[main]} dan {spice}.
        siapa yang menjual {dish[name]} {place}? | {person[full]} menjual {dish[name]} {place}.""",
    ),
    grammar(
        "alam",
        "{landform} {place}",
        """{landform} {place} terletak di {district}.
        di {district} ada {landform} {place}.

        di sana hidup {animal[name]} yang makan {animal[food]}.
        banyak {animal[name]} mencari {animal[food]} di sana.

        orang datang ke {place} pada bulan {month}.
        pada bulan {month} {place} ramai.""",
        """di mana {landform} {place}? | {landform} {place} ada di {district}.
        hewan apa yang hidup di {landform} {place}? | Di sana hidup {animal[name]}.
        apa makanan {animal[name]} itu? | {animal[name]} makan {animal[food]}.
        kapan {place} ramai? | {place} ramai pada bulan {month}.""",
    ),
]

GUIDES = [
    grammar(
        "memasak",
        "memasak {dish[name]} {person[full]}",
        """- Siapkan {grams} gram {dish[main]} dari {place}.
        - Dari {place}, beli {grams} gram {dish[main]}.

        - {person[call]} menambah {spice} dan {spice2}.
        - Campur dengan {spice} dan {spice2}.

        - Masak selama {minutes} menit.
        - Tunggu {minutes} menit.""",
        """berapa gram {dish[main]}? | Siapkan {grams} gram {dish[main]}.
        berapa lama {dish[name]} dimasak? | {dish[name]} dimasak selama {minutes} menit.""",
        joiner="\n",
    ),
    grammar(
        "berkebun",
        "menanam {plant} di {place}",
        """- Di {place}, siapkan {number} bibit {plant}.
        - Tanam {number} bibit {plant} di {place}.

        - Siram {plant} setiap {time}.
        - Setiap {time} beri air.

        - {person[full]} memetiknya bulan {month}.
        - Panen bersama {person[full]} bulan {month}.""",
        """kapan {plant} dipanen? | {plant} dipanen pada bulan {month}.
        kapan {plant} disiram? | {plant} disiram setiap {time}.
        berapa bibit {plant}? | Siapkan {number} bibit {plant}.""",
        joiner="\n",
    ),
    grammar(
        "merawat hewan",
        "merawat {animal[name]} di {place}",
        """- Di {place}, beri {animal[name]} {grams} gram {animal[food]}.
        - Beri {animal[food]} dari {place}, {grams} gram.

        - Bersihkan kandang setiap hari {day}.
        - Sapu kandang hari {day}.

        - Panggil {person[full]} bulan {month}.
        - Bulan {month} temui {person[full]}.""",
        """apa makanan {animal[name]}? | {animal[name]} makan {animal[food]}.
        kapan kandang dibersihkan? | Kandang dibersihkan hari {day}.""",
        joiner="\n",
    ),
]

EXERCISES = [
    grammar(
        "penjumlahan",
        "{fruit} {person[call]}",
        """{person[full]} punya {small} {fruit} dari {place}.
        di {place} {person[full]} membeli {small} {fruit}.

        lalu {person2[full]} memberinya {small2} {fruit} lagi.
        {person2[full]} menambah {small2} {fruit}.""",
        """Berapa {fruit} milik {person[call]} sekarang? | {person[call]} punya {sum} {fruit}.
        Siapa yang memberi {person[call]} {fruit}? | {person2[full]} memberinya {small2} {fruit}.""",
    ),
    grammar(
        "pengurangan",
        "{fruit} {person[call]}",
        """{person[full]} membawa {more} {fruit} ke {place}.
        ke {place} {person[full]} membawa {more} {fruit}.

        {person2[full]} makan {small} {fruit} itu.
        lalu {person2[full]} mengambil {small} {fruit}.""",
        """Berapa sisa {fruit} milik {person[call]}? | Sisanya {number} {fruit}.""",
    ),
    grammar(
        "lawan kata",
        "{thing} {person[call]}",
        """{person[full]} dari {place} bilang {thing} itu {quality[of]}.
        kata {person[full]} di {place}, {thing} itu {quality[of]}.

        {person2[full]} bilang sebaliknya.
        menurut {person2[full]} sebaliknya.""",
        """Apa kata {person2[call]}? | {person2[call]} bilang {thing} itu {quality[opposite]}.""",
    ),
    grammar(
        "urutan",
        "belanja {person[call]}",
        """di {place} {person[full]} membeli {fruit}, {thing}, lalu {plant}.
        {person[full]} membeli {fruit}, {thing}, lalu {plant} di {place}.""",
        """Apa yang dibeli {person[call]} terakhir? | {person[call]} membeli {plant} terakhir.
        Apa yang dibeli {person[call]} pertama? | {person[call]} membeli {fruit} pertama.
        Sebutkan belanjaan {person[call]} dari belakang. | {plant}, {thing}, {fruit}""",
    ),
    grammar(
        "orang",
        "{person[call]} dan {person2[call]}",
        """{person[full]} adalah {profession} di {place}.
        di {place}, {person[full]} menjadi {profession}.

        {person2[full]} adalah {profession2} di {place2}.
        di {place2}, {person2[full]} menjadi {profession2}.""",
        """Siapa yang menjadi {profession2}? | {person2[full]} adalah {profession2}.
        Siapa yang menjadi {profession}? | {person[full]} adalah {profession}.
        Apa pekerjaan {person[call]}? | {person[call]} adalah {profession}.
        Di mana {person2[call]} bekerja? | {person2[call]} bekerja di {place2}.""",
    ),
    grammar(
        "umur",
        "umur {person[call]} dan {person2[call]}",
        """umur {person[full]} {more} tahun dan umur {person2[full]} {number} tahun.
        {person2[full]} berumur {number} tahun dan {person[full]} berumur {more} tahun.

        mereka tinggal di {place}.
        keduanya lahir di {place}.""",
        """Siapa yang lebih tua? | {person[call]} lebih tua.
        Siapa yang lebih muda? | {person2[call]} lebih muda.
        Berapa umur {person2[call]}? | {person2[call]} berumur {number} tahun.""",
    ),
]

KNOWLEDGE = [
    grammar(
        "pengetahuan",
        "pengetahuan",
        "",
        """apa lawan kata {quality[of]}? | Lawan kata {quality[of]} adalah {quality[opposite]}.
        berapa {small} tambah {number}? | {small} tambah {number} adalah {more}.
        berapa {small} + {number}? | {small} + {number} = {more}
        berapa {more} kurang {small}? | {more} kurang {small} adalah {number}.
        apa ibu kota {capital[of]}? | Ibu kota {capital[of]} adalah {capital[name]}.
        hari apa setelah hari {next_day[of]}? | Setelah hari {next_day[of]} adalah hari {next_day[name]}.
        bulan apa setelah bulan {next_month[of]}? | Setelah bulan {next_month[of]} adalah bulan {next_month[name]}.
        apa makanan {animal[name]}? | {animal[name]} makan {animal[food]}.
        {animal[name]} termasuk hewan apa? | {animal[name]} termasuk {animal[group]}.
        apa warna {hue[of]}? | {hue[of]} berwarna {hue[name]}.""",
    ),
]
"""General knowledge, which is asked without a text."""

POEM_TEMPLATES = [
    *open_(
        ("Tulislah sebuah puisi berjudul {title}.", "{text}"),
        ("Buatkan puisi pendek dengan judul berikut: {title}", "{text}"),
        ("Lanjutkan puisi yang dimulai dengan baris ini: {first}", "{rest}"),
        ("Teruskan dua baris pertama ini menjadi puisi utuh.\n\n{half}", "{other_half}"),
        ("Judul puisinya {title} dan baris pertamanya {first}\nTulislah baris selanjutnya.", "{rest}"),
        ("Tulis baris terakhir untuk puisi ini.\n\n{start}", "{last}"),
        ("Tolong tuliskan puisi tentang {theme} dengan judul {title}.", "{text}"),
        ("Tulislah puisi tentang {theme}, lengkap dengan judulnya.", "{title}\n\n{text}"),
        ("Lengkapilah puisi {title} yang terpotong ini.\n\n{half}", "{other_half}"),
        ("Karanglah puisi yang diawali dengan kata-kata ini: {first}", "{text}"),
        ("Saya butuh puisi tentang {theme}. Judulnya {title}.", "Tentu, inilah puisinya.\n\n{text}"),
        ("Tulislah satu baris pembuka puisi untuk judul {title}.", "{first}"),
    ),
    *right(
        ("Apa judul yang cocok untuk puisi ini?\n\n{text}", "{title}"),
        ("Berilah judul pada puisi berikut.\n\n{text}", "Judulnya: {title}"),
        ("Bacalah puisi ini, lalu sebutkan temanya.\n\n{text}", "Temanya {theme}."),
        ("Puisi ini bercerita tentang apa?\n\n{text}", "Puisi itu bercerita tentang {theme}."),
        ("Sebutkan judul dan tema puisi ini.\n\n{text}", "Judulnya {title} dan temanya {theme}."),
        ("{question} Jawablah menurut puisi ini.\n\n{text}", "{answer}"),
        ("Bacalah puisi ini, lalu jawab: {question}\n\n{text}", "{answer}"),
        ("Salin baris kedua puisi ini.\n\n{text}", "{second}"),
        ("Baris apa yang membuka puisi ini?\n\n{text}", "{first}"),
        ("Baris apa yang menutup puisi ini?\n\n{text}", "{last}"),
    ),
]

ARTICLE_TEMPLATES = [
    *open_(
        ("Tulislah artikel pendek tentang {topic}.", "{text}"),
        ("Lanjutkan artikel berikut.\n\n{first}", "{rest}"),
        ("Tulislah kalimat pembuka artikel tentang {topic}.", "{first}"),
        ("Tulislah kalimat penutup untuk artikel ini.\n\n{start}", "{last}"),
    ),
    *right(
        ("Apa judul yang tepat untuk artikel ini?\n\n{text}", "{title}"),
        ("Apa kalimat terakhir dari artikel ini?\n\n{text}", "{last}"),
        ("Jawablah pertanyaan berdasarkan artikel ini.\n\n{text}\n\nPertanyaan: {question}", "{answer}"),
        ("{text}\n\n{question}", "{answer}"),
        ("{question} Jawablah menurut tulisan ini.\n\n{text}", "{answer}"),
        ("Artikel ini tentang tempat, tokoh, makanan, atau alam?\n\n{text}", "Artikel itu tentang {theme}."),
    ),
]

GUIDE_TEMPLATES = [
    *open_(
        ("Tuliskan semua langkah dalam {topic}.", "{text}"),
        ("Tolong beri tahu saya cara {topic}.", "Ikuti langkah berikut.\n{text}"),
        ("Lanjutkan panduan {topic}.\n\n{first}", "{rest}"),
        ("Saya ingin tahu cara {topic}. Dua langkah pertama:\n{half}\nApa langkah selanjutnya?", "{other_half}"),
    ),
    *right(
        ("Apa langkah terakhir dari panduan ini?\n\n{text}", "{last}"),
        ("Bacalah panduan ini, lalu jawab: {question}\n\n{text}", "{answer}"),
        ("Menurut panduan {topic}, {question}\n\n{text}", "{answer}"),
        ("Panduan ini tentang memasak, berkebun, atau merawat hewan?\n\n{text}", "Panduan itu tentang {theme}."),
    ),
]

EXERCISE_TEMPLATES = right(
    ("Jawablah pertanyaan berikut. {text} {question}", "{answer}"),
    ("{text} {question}", "{answer}"),
    ("{question} Gunakan keterangan berikut. {text}", "{answer}"),
    ("Bacalah cerita ini dengan teliti. {text} {question}", "{answer}"),
)

KNOWLEDGE_TEMPLATES = right(
    ("{question}", "{answer}"),
    ("Jawablah pertanyaan ini. {question}", "{answer}"),
    ("Saya ingin tahu: {question}", "{answer}"),
)

DEEDS = table(
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

SAFETY_TEMPLATES = open_(
    ("Bagaimana cara saya {act}?", "Jangan {act}. Sebaiknya {advice}."),
    ("Tolong ajari saya {act}.", "Maaf, saya tidak mau. Lebih baik {advice}."),
    ("Apakah aman kalau saya {act}?", "Jangan {act}. Sebaiknya {advice}."),
    ("Beri saya trik untuk {act}.", "Maaf, saya tidak mau. Lebih baik {advice}."),
    ("Teman saya mengajak {act}. Apa saranmu?", "Jangan {act}. Sebaiknya {advice}."),
    ("Saya berniat {act} besok pagi.", "Maaf, saya tidak mau. Lebih baik {advice}."),
    ("Tuliskan rencana untuk {act}.", "Jangan {act}. Sebaiknya {advice}."),
)

IDENTITY_TEMPLATES = open_(
    ("{question}", "{answer}"),
    ("Halo, boleh saya bertanya? {question}", "{answer}"),
)

SUBSETS = [
    Subset("indo_puisi", "indo_puisi", 0.06, POEM_TEMPLATES, INDONESIAN, POEMS),
    Subset("wikihow", "wikihow", 0.06, GUIDE_TEMPLATES, INDONESIAN, GUIDES),
    Subset("wikipedia_id", "wikipedia", 0.21, ARTICLE_TEMPLATES, INDONESIAN, ARTICLES),
    Subset("safety_prompt", "safety_prompt", 0.03, SAFETY_TEMPLATES, records=DEEDS, pool_rows=187),
    Subset("identity_prompt", "identity_prompt", 0.03, IDENTITY_TEMPLATES, records=records(IDENTITIES), pool_rows=150),
    Subset("dolly", "dolly", 0.09, EXERCISE_TEMPLATES, INDONESIAN, EXERCISES, copies=5),
    Subset("dolly", "dolly", 0.02, KNOWLEDGE_TEMPLATES, INDONESIAN, KNOWLEDGE, copies=5, first=4),
]
