//! What was found of each id, in files by the id's hash: memory stays the same however many there are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use ingest::window::IdKey;
use service::Failure;

/// Ids that one file should hold.
const IDS_A_FILE: u64 = 40_000;
/// Files at most: each is open while ids are noted.
const MOST_FILES: u64 = 256;

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
    Enriched,
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
            Found::Enriched => self.enriched += 1,
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
            Self::Enriched => 3,
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
            3 => Self::Enriched,
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

/// Ids and where they were found.
pub(super) struct Ids {
    files: Vec<BufWriter<File>>,
    /// What went wrong first: callbacks that read Kafka cannot stop for it.
    failure: Option<io::Error>,
}

impl Ids {
    /// Room for about so many ids. The files have no names, and are gone when this is.
    pub(super) fn about(expected: u64) -> Result<Self, Failure> {
        let count = (expected / IDS_A_FILE + 1).min(MOST_FILES);
        let files: io::Result<Vec<_>> = (0..count).map(|_| Ok(BufWriter::new(tempfile::tempfile()?))).collect();
        Ok(Self { files: files.map_err(|error| failed(&error))?, failure: None })
    }

    /// Notes that an id was found.
    pub(super) fn note(&mut self, id: &str, found: Found) {
        if self.failure.is_none() {
            self.failure = self.write(IdKey::of(id), found).err();
        }
    }

    fn write(&mut self, key: IdKey, found: Found) -> io::Result<()> {
        let key = key.0.into_bytes();
        let [.., a, b] = key;
        let index = usize::from(u16::from_le_bytes([a, b])) % self.files.len();
        let Some(file) = self.files.get_mut(index) else { return Ok(()) };
        file.write_all(&key)?;
        file.write_all(&[found.to_byte()])?;
        if let Found::Made(place) = found { place.write(file) } else { Ok(()) }
    }

    /// Hands over every id once, with all that was found of it; in no order.
    pub(super) fn each(self, mut each: impl FnMut(&Seen)) -> Result<(), Failure> {
        if let Some(error) = &self.failure {
            return Err(failed(error));
        }
        for file in self.files {
            let seen = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(read);
            seen.map_err(|error| failed(&error))?.values().for_each(&mut each);
        }
        Ok(())
    }
}

fn read(mut file: File) -> io::Result<HashMap<[u8; 16], Seen>> {
    let length = file.stream_position()?;
    file.seek(SeekFrom::Start(0))?;
    let mut file = BufReader::new(file.take(length));
    let mut ids: HashMap<[u8; 16], Seen> = HashMap::new();
    let mut key = [0; 16];
    let mut mark = [0; 1];
    while file.get_ref().limit() > 0 || !file.buffer().is_empty() {
        file.read_exact(&mut key)?;
        file.read_exact(&mut mark)?;
        let found = Found::from_byte(mark[0], &mut file)?;
        ids.entry(key).or_default().note(found);
    }
    Ok(ids)
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
        let mut ids = Ids::about(200_000).unwrap();
        let place = Place { topic: 1, offset: -7, time_ms: 1 << 40 };
        for number in 0..1000 {
            ids.note(&format!("id-{number}"), Found::Raw { is_young: number % 2 == 0 });
        }
        ids.note("id-5", Found::Stored { is_aged: true });
        for number in 0..1000 {
            ids.note(&format!("id-{number}"), Found::Enriched);
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
    fn nothing_found_is_nothing_handed_over() {
        let mut count = 0;
        Ids::about(0).unwrap().each(|_| count += 1).unwrap();
        assert_eq!(count, 0);
    }
}
