//! What was found of each id, in files by the id's hash: memory stays the same however many there are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use ingest::window::IdKey;
use service::Failure;

/// Files at once: each byte of an id's hash chooses one of so many.
const FILES: usize = 64;
/// A file that is longer is split before it is read: ids of so many bytes take some 20 MiB of memory.
const MOST_BYTES: u64 = 4 << 20;
/// Bytes of the hash by which files are split. A file that is long after all of them holds few ids, many times each.
const SPLITS: usize = 4;

/// Where an event was made, in the simulator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of its source topic, as the caller counts them.
    pub(super) topic: u32,
    pub(super) offset: i64,
    pub(super) time_ms: i64,
}

/// Where an id was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Made(Place),
    /// In the raw topic, young or not.
    Raw {
        is_young: bool,
    },
    /// In the events topic; before the table's first row, or not.
    Enriched {
        is_before: bool,
    },
    /// In the table; its record may be gone from the topic.
    Stored {
        is_aged: bool,
    },
    SetAside,
}

/// All that was found of one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) made: Option<Place>,
    pub(super) raw: usize,
    pub(super) enriched: usize,
    pub(super) stored: usize,
    pub(super) is_young: bool,
    pub(super) is_aged: bool,
    pub(super) is_before: bool,
    pub(super) is_set_aside: bool,
}

impl Seen {
    fn note(&mut self, found: Found) {
        match found {
            Found::Made(place) => self.made = Some(place),
            Found::Raw { is_young } => {
                self.raw += 1;
                self.is_young |= is_young;
            }
            Found::Enriched { is_before } => {
                self.enriched += 1;
                self.is_before |= is_before;
            }
            Found::Stored { is_aged } => {
                self.stored += 1;
                self.is_aged |= is_aged;
            }
            Found::SetAside => self.is_set_aside = true,
        }
    }

    /// How often it is there more than once.
    pub(super) fn repeats(&self) -> usize {
        [self.raw, self.enriched, self.stored].into_iter().map(|times| times.saturating_sub(1)).sum()
    }
}

impl Found {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Made(_) => 0,
            Self::Raw { is_young: false } => 1,
            Self::Raw { is_young: true } => 2,
            Self::Enriched { is_before: false } => 3,
            Self::Enriched { is_before: true } => 7,
            Self::Stored { is_aged: false } => 4,
            Self::Stored { is_aged: true } => 5,
            Self::SetAside => 6,
        }
    }

    fn from_byte(byte: u8, read: &mut impl io::Read) -> io::Result<Self> {
        Ok(match byte {
            0 => Self::Made(Place::read(read)?),
            1 => Self::Raw { is_young: false },
            2 => Self::Raw { is_young: true },
            3 => Self::Enriched { is_before: false },
            7 => Self::Enriched { is_before: true },
            4 => Self::Stored { is_aged: false },
            5 => Self::Stored { is_aged: true },
            6 => Self::SetAside,
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("mark {other}"))),
        })
    }
}

impl Place {
    fn read(read: &mut impl io::Read) -> io::Result<Self> {
        let (mut topic, mut offset, mut time) = ([0; 4], [0; 8], [0; 8]);
        read.read_exact(&mut topic)?;
        read.read_exact(&mut offset)?;
        read.read_exact(&mut time)?;
        let (offset, time_ms) = (i64::from_le_bytes(offset), i64::from_le_bytes(time));
        Ok(Self { topic: u32::from_le_bytes(topic), offset, time_ms })
    }

    fn write(self, write: &mut impl io::Write) -> io::Result<()> {
        write.write_all(&self.topic.to_le_bytes())?;
        write.write_all(&self.offset.to_le_bytes())?;
        write.write_all(&self.time_ms.to_le_bytes())
    }
}

/// A mark in a file: an id, and where it was found.
type Mark = ([u8; 16], Found);

/// Marks, by a byte of the id's hash. The files have no names, and are gone when this is.
struct Files {
    files: Vec<BufWriter<File>>,
    depth: usize,
}

impl Files {
    fn new(depth: usize) -> io::Result<Self> {
        let files: io::Result<Vec<_>> = (0..FILES).map(|_| Ok(BufWriter::new(tempfile::tempfile()?))).collect();
        Ok(Self { files: files?, depth })
    }

    fn write(&mut self, (key, found): &Mark) -> io::Result<()> {
        // From the end: the first bytes of some kinds of ids are a time.
        let byte = key.iter().rev().nth(self.depth).copied().unwrap_or_default();
        let Some(file) = self.files.get_mut(usize::from(byte) % FILES) else { return Ok(()) };
        file.write_all(key)?;
        file.write_all(&[found.to_byte()])?;
        if let Found::Made(place) = found { place.write(file) } else { Ok(()) }
    }

    /// Hands over every id once.
    fn each(self, each: &mut impl FnMut(&Seen)) -> io::Result<()> {
        for file in self.files {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let length = file.stream_position()?;
            file.seek(SeekFrom::Start(0))?;
            let marks = Marks(BufReader::new(file.take(length)));
            if length > MOST_BYTES && self.depth + 1 < SPLITS {
                let mut parts = Self::new(self.depth + 1)?;
                for mark in marks {
                    parts.write(&mark?)?;
                }
                parts.each(each)?;
            } else {
                let mut ids: HashMap<[u8; 16], Seen> = HashMap::new();
                for mark in marks {
                    let (key, found) = mark?;
                    ids.entry(key).or_default().note(found);
                }
                ids.values().for_each(&mut *each);
            }
        }
        Ok(())
    }
}

/// The marks of a file.
struct Marks(BufReader<io::Take<File>>);

impl Marks {
    fn read(&mut self) -> io::Result<Mark> {
        let (mut key, mut found) = ([0; 16], [0; 1]);
        self.0.read_exact(&mut key)?;
        self.0.read_exact(&mut found)?;
        Ok((key, Found::from_byte(found[0], &mut self.0)?))
    }
}

impl Iterator for Marks {
    type Item = io::Result<Mark>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_over = self.0.get_ref().limit() == 0 && self.0.buffer().is_empty();
        (!is_over).then(|| self.read())
    }
}

/// Ids and where they were found.
pub(super) struct Ids {
    files: Files,
    /// What went wrong first: callbacks that read Kafka cannot stop for it.
    failure: Option<io::Error>,
}

impl Ids {
    /// None yet.
    pub(super) fn new() -> Result<Self, Failure> {
        let files = Files::new(0).map_err(|error| failed(&error))?;
        Ok(Self { files, failure: None })
    }

    /// Notes that an id was found.
    pub(super) fn note(&mut self, id: &str, found: Found) {
        if self.failure.is_none() {
            self.failure = self.files.write(&(IdKey::of(id).0.into_bytes(), found)).err();
        }
    }

    /// Hands over every id once, with all that was found of it; in no order.
    pub(super) fn each(self, mut each: impl FnMut(&Seen)) -> Result<(), Failure> {
        let handed = match self.failure {
            Some(error) => Err(error),
            None => self.files.each(&mut each),
        };
        handed.map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::Runtime(format!(
        "the audit notes ids in files of {}, and cannot: {error}; about 20 bytes an id are needed, three times",
        std::env::temp_dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_of_an_id_comes_together_whatever_the_order() {
        let mut ids = Ids::new().unwrap();
        let place = Place { topic: 1, offset: -7, time_ms: 1 << 40 };
        for number in 0..1000 {
            ids.note(&format!("id-{number}"), Found::Raw { is_young: number % 2 == 0 });
        }
        ids.note("id-5", Found::Stored { is_aged: true });
        for number in 0..1000 {
            ids.note(&format!("id-{number}"), Found::Enriched { is_before: false });
        }
        ids.note("id-5", Found::Made(place));
        ids.note("id-5", Found::Stored { is_aged: false });
        ids.note("no-uuid", Found::SetAside);
        let mut all = Vec::new();
        ids.each(|seen| all.push(*seen)).unwrap();
        assert_eq!(all.len(), 1001);
        let five = Seen { made: Some(place), raw: 1, enriched: 1, stored: 2, is_aged: true, ..Seen::default() };
        assert_eq!(all.iter().find(|seen| seen.stored > 0), Some(&five));
        assert_eq!((five.repeats(), all.iter().filter(|seen| seen.is_young).count()), (1, 500));
        assert!(all.iter().any(|seen| seen.is_set_aside && seen.raw == 0));
    }

    #[test]
    fn files_that_are_long_are_split_and_every_id_is_handed_over_once() {
        let mut files = Files::new(0).unwrap();
        // Alike in the first byte that splits: all of them lie in one file.
        let ids = (u32::try_from(MOST_BYTES).unwrap() / 17) * 2;
        for number in 0..ids {
            let mut key = [0; 16];
            key[8..12].copy_from_slice(&number.to_be_bytes());
            key[12..15].copy_from_slice(&number.to_le_bytes()[..3]);
            files.write(&(key, Found::Enriched { is_before: false })).unwrap();
        }
        for _ in 0..MOST_BYTES / 17 {
            files.write(&([9; 16], Found::Raw { is_young: false })).unwrap();
        }
        let (mut count, mut most) = (0, 0);
        files
            .each(&mut |seen: &Seen| {
                count += 1;
                most = most.max(seen.raw);
            })
            .unwrap();
        assert_eq!((count, most as u64), (ids + 1, MOST_BYTES / 17));
    }

    #[test]
    fn nothing_found_is_nothing_handed_over() {
        let mut count = 0;
        Ids::new().unwrap().each(|_| count += 1).unwrap();
        assert_eq!(count, 0);
    }
}
