//! Words of the generator's own, in many scripts, and the wikis with their measured shares.

/// A wiki of the generator.
#[derive(Debug)]
pub(crate) struct Wiki {
    pub(crate) name: &'static str,
    pub(crate) domain: &'static str,
    pub(crate) script: Script,
    /// Local names of namespaces: talk, user, user talk, project, file, template, category, and 104.
    pub(crate) prefixes: [&'static str; 8],
}

/// A script, with words that titles and comments are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    Latin,
    Vietnamese,
    Cyrillic,
    Han,
    Kana,
    Hebrew,
    Arabic,
    Astral,
}

const ENGLISH: [&str; 8] = ["Talk", "User", "User talk", "Wikipedia", "File", "Template", "Category", "Page"];

macro_rules! wiki {
    ($name:literal, $domain:literal, $script:ident, $prefixes:expr) => {
        Wiki { name: $name, domain: $domain, script: Script::$script, prefixes: $prefixes }
    };
}

/// The wikis with their shares in thousandths, as measured over a minute of the stream.
pub(crate) static WIKIS: [(Wiki, u64); 14] = [
    (wiki!("commonswiki", "commons.wikimedia.org", Latin, ENGLISH), 245),
    (wiki!("wikidatawiki", "www.wikidata.org", Latin, ENGLISH), 230),
    (
        wiki!(
            "viwiki",
            "vi.wikipedia.org",
            Vietnamese,
            ["Thảo luận", "Thành viên", "Thảo luận Thành viên", "Wikipedia", "Tập tin", "Bản mẫu", "Thể loại", "Trang"]
        ),
        115,
    ),
    (wiki!("enwiki", "en.wikipedia.org", Latin, ENGLISH), 130),
    (
        wiki!(
            "ruwiki",
            "ru.wikipedia.org",
            Cyrillic,
            ["Обсуждение", "Участник", "Обсуждение участника", "Википедия", "Файл", "Шаблон", "Категория", "Инкубатор"]
        ),
        50,
    ),
    (
        wiki!(
            "dewiki",
            "de.wikipedia.org",
            Latin,
            ["Diskussion", "Benutzer", "Benutzer Diskussion", "Wikipedia", "Datei", "Vorlage", "Kategorie", "Seite"]
        ),
        40,
    ),
    (
        wiki!(
            "frwiki",
            "fr.wikipedia.org",
            Latin,
            [
                "Discussion",
                "Utilisateur",
                "Discussion utilisateur",
                "Wikipédia",
                "Fichier",
                "Modèle",
                "Catégorie",
                "Référence"
            ]
        ),
        40,
    ),
    (wiki!("zhwiki", "zh.wikipedia.org", Han, ENGLISH), 30),
    (
        wiki!(
            "hewiki",
            "he.wikipedia.org",
            Hebrew,
            ["שיחה", "משתמש", "שיחת משתמש", "ויקיפדיה", "קובץ", "תבנית", "קטגוריה", "עמוד"]
        ),
        25,
    ),
    (
        wiki!(
            "arwiki",
            "ar.wikipedia.org",
            Arabic,
            ["نقاش", "مستخدم", "نقاش المستخدم", "ويكيبيديا", "ملف", "قالب", "تصنيف", "صفحة"]
        ),
        25,
    ),
    (
        wiki!(
            "jawiki",
            "ja.wikipedia.org",
            Kana,
            ["ノート", "利用者", "利用者‐会話", "Wikipedia", "ファイル", "Template", "Category", "ページ"]
        ),
        25,
    ),
    (
        wiki!(
            "eswiki",
            "es.wikipedia.org",
            Latin,
            ["Discusión", "Usuario", "Usuario discusión", "Wikipedia", "Archivo", "Plantilla", "Categoría", "Anexo"]
        ),
        25,
    ),
    (wiki!("enwiktionary", "en.wiktionary.org", Astral, ENGLISH), 15),
    (wiki!("testwiki", "test.wikipedia.org", Astral, ENGLISH), 5),
];

impl Script {
    /// Words that titles and comments are made of.
    pub(crate) const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Latin => &[
                "River",
                "Castle",
                "Élan",
                "Über",
                "Number",
                "Stone",
                "Garden",
                "Ångström",
                "Lake",
                "Tower",
                "Ørsted",
                "History",
                "Bridge",
                "North",
                "Quartz",
                "Ñandú",
            ],
            Self::Vietnamese => &["Sông", "Núi", "Tỉnh", "Hồ", "Đảo", "Cầu", "Rừng", "Biển", "Làng", "Chợ"],
            Self::Cyrillic => {
                &["Река", "Город", "Мост", "Звезда", "Озеро", "Камень", "Остров", "Ёлка", "Поле", "Башня"]
            }
            Self::Han => &["河流", "山脉", "城市", "星辰", "石桥", "森林", "岛屿", "历史", "高塔", "湖泊"],
            Self::Kana => &["ひかり", "みずうみ", "タワー", "ロボット", "さくら", "やまびこ", "カメラ", "そら"],
            Self::Hebrew => &["נהר", "עיר", "גשר", "כוכב", "אגם", "אבן", "אי", "מגדל"],
            Self::Arabic => &["نهر", "مدينة", "جسر", "نجمة", "بحيرة", "حجر", "جزيرة", "برج"],
            Self::Astral => &["𐌰𐌱𐌲", "𝔘𝔫𝔦", "🜁air", "𓀀", "word", "rhyme", "verb", "noun"],
        }
    }
}

/// Account names of the generator.
pub(crate) const USERS: [&str; 12] = [
    "Example Gardener",
    "Kartenfreund",
    "Люба Читатель",
    "測試用戶",
    "ბიბლიოთეკა",
    "Página Larga",
    "Semicolon;User",
    "\"Quoted\"",
    "O'Backslash\\Slash",
    "مستخدم التجربة",
    "משתמש לדוגמה",
    "さんぷる",
];

/// Bots of the generator; the first makes half of all bot edits.
pub(crate) const BOTS: [&str; 6] =
    ["SampleImportBot", "LinkTidyBot", "CategoryBot", "ArchivBot-Beispiel", "БотОбразец", "ExampleDateBot"];
