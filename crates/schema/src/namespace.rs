//! Namespace id and title → name.
//!
//! No table per wiki and no look-up over the network: an event outside namespace 0 carries its wiki's own
//! name in its title.

/// The name of an id that neither the title nor the table explains.
pub const UNKNOWN: &str = "unknown";

/// Ids whose canonical English name is always used, whatever the wiki calls them.
const CANONICAL_IDS: std::ops::RangeInclusive<i64> = -2..=15;

/// Where a name came from. A closed set: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The table of canonical names.
    Canonical,
    /// The title's prefix.
    Title,
    /// Neither.
    Unknown,
}

impl Source {
    /// Every source, for metrics that start at 0.
    pub const ALL: [Self; 3] = [Self::Canonical, Self::Title, Self::Unknown];

    /// The source as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Title => "title",
            Self::Unknown => "unknown",
        }
    }
}

/// The canonical English name of a namespace id, in the spelling of the original tutorial's table.
#[must_use]
pub const fn canonical(id: i64) -> Option<&'static str> {
    Some(match id {
        -2 => "Media",
        -1 => "Special",
        0 => "main namespace",
        1 => "Talk",
        2 => "User",
        3 => "User Talk",
        4 => "Wikipedia",
        5 => "Wikipedia Talk",
        6 => "File",
        7 => "File Talk",
        8 => "MediaWiki",
        9 => "MediaWiki Talk",
        10 => "Template",
        11 => "Template Talk",
        12 => "Help",
        13 => "Help Talk",
        14 => "Category",
        15 => "Category Talk",
        100 => "Portal",
        101 => "Portal Talk",
        108 => "Book",
        109 => "Book Talk",
        118 => "Draft",
        119 => "Draft Talk",
        446 => "Education Program",
        447 => "Education Program Talk",
        710 => "TimedText",
        711 => "TimedText Talk",
        828 => "Module",
        829 => "Module Talk",
        2300 => "Gadget",
        2301 => "Gadget Talk",
        2302 => "Gadget definition",
        2303 => "Gadget definition Talk",
        _ => return None,
    })
}

/// The wiki's own namespace name: the title's prefix where `id` is not 0, else empty.
#[must_use]
pub fn local(id: i64, title: &str) -> &str {
    if id == 0 {
        return "";
    }
    title.split_once(':').map_or("", |(prefix, _)| prefix)
}

/// The name of namespace `id` for an event with this title, and where it came from.
///
/// Ids −2…15 have one name on all wikis. Above that the same id means different things on different wikis
/// (104 is "Page" on Wikisources, "Anexo" on eswiki), so the wiki's own name comes first.
#[must_use]
pub fn name(id: i64, title: &str) -> (&str, Source) {
    if CANONICAL_IDS.contains(&id)
        && let Some(name) = canonical(id)
    {
        return (name, Source::Canonical);
    }
    let local = local(id, title);
    if !local.is_empty() {
        return (local, Source::Title);
    }
    canonical(id).map_or((UNKNOWN, Source::Unknown), |name| (name, Source::Canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_ids_have_the_canonical_name_on_every_wiki() {
        assert_eq!(name(3, "Обсуждение участника:A"), ("User Talk", Source::Canonical));
        assert_eq!(name(0, "2001: A Space Odyssey"), ("main namespace", Source::Canonical));
        assert_eq!(name(-1, "Special:Log"), ("Special", Source::Canonical));
    }

    #[test]
    fn other_ids_have_the_wikis_own_name() {
        assert_eq!(name(104, "Anexo:Lista"), ("Anexo", Source::Title));
        assert_eq!(name(828, "Module:Date"), ("Module", Source::Title));
    }

    #[test]
    fn without_a_prefix_the_table_answers_else_unknown() {
        assert_eq!(name(828, "no prefix"), ("Module", Source::Canonical));
        assert_eq!(name(4711, "no prefix"), (UNKNOWN, Source::Unknown));
        assert_eq!(name(-3, ":"), (UNKNOWN, Source::Unknown));
    }

    #[test]
    fn the_main_namespace_has_no_local_name() {
        assert_eq!(local(0, "Star Trek: Picard"), "");
        assert_eq!(local(14, "Kategorie:Rust:2"), "Kategorie");
    }
}
