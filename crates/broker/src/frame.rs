//! Checks every length in a request before anything is allocated for it.
//!
//! The decoder allocates what an array's length field says, so one bad frame could end the process. Each
//! request's layout stands here in a small notation; a frame whose lengths do not fit into its own bytes is
//! refused.
//!
//! Notation: `b` 1 byte, `h` 2, `i` 4, `l` 8, `u` 16, `s` a string or null, `y` bytes or null, `[ … ]` an array;
//! a suffix bounds the versions that have the field (`s3+`, `i-2`, `i3-5`).

use kafka_protocol::messages::ApiKey;

/// One request that the broker answers: its versions, the first with compact lengths, and its layout.
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
    flexible: i16,
    layout: &'static str,
}

const fn api(key: ApiKey, min: i16, max: i16, flexible: i16, layout: &'static str) -> Api {
    Api { key, min, max, flexible, layout }
}

/// Everything the broker answers. Fetch stays at 12, so that topics are addressed by name.
pub(crate) const APIS: &[Api] = &[
    api(ApiKey::Produce, 3, 9, 9, "s h i [ s [ i y ] ]"),
    api(ApiKey::Fetch, 4, 12, 12, "i i i i b i7+ i7+ [ s [ i i9+ l i12+ l5+ i ] ] [7+ s [ i ] ] s11+"),
    api(ApiKey::ListOffsets, 1, 7, 6, "i b2+ [ s [ i i4+ l ] ]"),
    api(ApiKey::Metadata, 0, 12, 9, "[ u10+ s ] b4+ b8-10 b8+"),
    api(ApiKey::OffsetCommit, 2, 9, 8, "s i s s7+ l2-4 [ s [ i l i6+ s ] ]"),
    api(ApiKey::OffsetFetch, 1, 9, 6, "s-7 [-7 s [ i ] ] [8+ s s9+ i9+ [ s [ i ] ] ] b7+"),
    api(ApiKey::FindCoordinator, 0, 4, 3, "s-3 b1+ [4+ s ]"),
    api(ApiKey::JoinGroup, 0, 7, 6, "s i i1+ s s5+ s [ s y ]"),
    api(ApiKey::Heartbeat, 0, 4, 4, "s i s s3+"),
    api(ApiKey::LeaveGroup, 0, 4, 4, "s s-2 [3+ s s ]"),
    api(ApiKey::SyncGroup, 0, 5, 4, "s i s s3+ s5+ s5+ [ s y ]"),
    api(ApiKey::DescribeGroups, 0, 5, 5, "[ s ] b3+"),
    api(ApiKey::ListGroups, 0, 5, 3, "[4+ s ] [5+ s ]"),
    api(ApiKey::ApiVersions, 0, 3, 3, "s3+ s3+"),
    api(ApiKey::CreateTopics, 2, 7, 5, "[ s i h [ i [ i ] ] [ s s ] ] i b"),
    api(ApiKey::DeleteTopics, 1, 5, 4, "[ s ] i"),
    api(ApiKey::DeleteRecords, 0, 2, 2, "[ s [ i l ] ] i"),
    api(ApiKey::InitProducerId, 0, 4, 2, "s i l3+ h3+"),
    api(ApiKey::AddPartitionsToTxn, 0, 3, 3, "s l h [ s [ i ] ]"),
    api(ApiKey::AddOffsetsToTxn, 0, 3, 3, "s l h s"),
    api(ApiKey::EndTxn, 0, 3, 3, "s l h b"),
    api(ApiKey::TxnOffsetCommit, 0, 3, 3, "s s l h i3+ s3+ s3+ [ s [ i l i2+ s ] ]"),
    api(ApiKey::DescribeConfigs, 1, 4, 4, "[ b s [ s ] ] b b3+"),
    api(ApiKey::CreatePartitions, 0, 3, 2, "[ s i [ [ i ] ] ] i b"),
    api(ApiKey::DeleteGroups, 0, 2, 2, "[ s ]"),
    api(ApiKey::ConsumerGroupHeartbeat, 0, 1, 0, "s s i s s i [ s ] s1+ s [ u [ i ] ]"),
    api(ApiKey::ConsumerGroupDescribe, 0, 1, 0, "[ s ] b"),
];

/// The entry of a request, if the broker answers that version of it.
pub(crate) fn find(key: i16, version: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key && (api.min..=api.max).contains(&version))
}

/// The elements of all arrays in `body` (the request behind its header); none where a length does not fit into the bytes
/// that are there.
pub(crate) fn elements(api: &Api, version: i16, body: &[u8]) -> Option<usize> {
    let flexible = version >= api.flexible;
    let mut reader = Reader { rest: body, flexible, elements_left: MOST_ELEMENTS, tag_bytes_left: MOST_TAG_BYTES };
    let tokens: Vec<&str> = api.layout.split_whitespace().collect();
    reader.fields(&tokens, version)?;
    if flexible {
        reader.tagged()?;
    }
    Some(MOST_ELEMENTS - reader.elements_left)
}

/// Elements of all arrays of a request: each costs the decoder and the answer far more than its bytes.
const MOST_ELEMENTS: usize = 100_000;
/// Tagged fields of a request are read past; so many at most, of so many bytes.
const MOST_TAGS: usize = 1_000;
const MOST_TAG_BYTES: usize = 64 << 10;
/// Bytes of a text: without compact lengths there cannot be more.
const MOST_STRING_BYTES: usize = i16::MAX as usize;

struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
    elements_left: usize,
    tag_bytes_left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let byte = usize::from(*self.take(1)?.first()?);
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length of 2 or 4 bytes, or compact; null reads as 0.
    fn length(&mut self, bytes: usize) -> Option<usize> {
        if self.flexible {
            return Some(self.varint()?.saturating_sub(1));
        }
        let value = self.take(bytes)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let negative = value >> (8 * bytes - 1) == 1;
        if negative { Some(0) } else { usize::try_from(value).ok() }
    }

    fn tagged(&mut self) -> Option<()> {
        let count = self.varint().filter(|count| *count <= MOST_TAGS)?;
        for _ in 0..count {
            self.varint()?;
            let length = self.varint()?;
            self.tag_bytes_left = self.tag_bytes_left.checked_sub(length)?;
            self.take(length)?;
        }
        Some(())
    }

    fn fields(&mut self, tokens: &[&str], version: i16) -> Option<()> {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let present = is_present(token.get(1..)?, version);
            let kind = token.as_bytes().first()?;
            if *kind == b'[' {
                let end = at + closing(tokens.get(at..)?)?;
                if present {
                    self.array(tokens.get(at + 1..end)?, version)?;
                }
                at = end + 1;
                continue;
            }
            if present {
                self.field(*kind)?;
            }
            at += 1;
        }
        Some(())
    }

    fn array(&mut self, element: &[&str], version: i16) -> Option<()> {
        let count = self.length(4)?;
        // Every element takes a byte at least.
        if count > self.rest.len() {
            return None;
        }
        self.elements_left = self.elements_left.checked_sub(count)?;
        // Arrays of plain values carry no tags behind each.
        let is_struct = element.len() > 1;
        for _ in 0..count {
            self.fields(element, version)?;
            if self.flexible && is_struct {
                self.tagged()?;
            }
        }
        Some(())
    }

    fn field(&mut self, kind: u8) -> Option<()> {
        let size = match kind {
            b'b' => 1,
            b'h' => 2,
            b'i' => 4,
            b'l' => 8,
            b'u' => 16,
            b's' => self.length(2).filter(|length| *length <= MOST_STRING_BYTES)?,
            _ => self.length(4)?,
        };
        self.take(size).map(|_| ())
    }
}

/// Index of the bracket that closes the one `tokens` begins with.
fn closing(tokens: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.as_bytes().first()? {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

/// Whether a field with this version suffix exists in `version`.
fn is_present(bounds: &str, version: i16) -> bool {
    if bounds.is_empty() {
        return true;
    }
    if let Some(min) = bounds.strip_suffix('+') {
        return min.parse().is_ok_and(|min: i16| version >= min);
    }
    let Some((min, max)) = bounds.split_once('-') else {
        return false;
    };
    let (min, max) = (min.parse().unwrap_or(0), max.parse().unwrap_or(i16::MAX));
    (min..=max).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kafka_protocol::messages::RequestKind;

    /// Small bytes, so that counts are small and arrays get an element now and then. A compact length of 0 is
    /// null, so there half of them are 1.
    fn small_bytes(state: &mut u64, flexible: bool) -> Vec<u8> {
        let rare = if flexible { 2 } else { 6 };
        let mut next = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *state >> 33
        };
        (0..160)
            .map(|_| if next() % rare == 0 { [1, 1, 1, 2][usize::try_from(next() % 4).unwrap()] } else { 0 })
            .collect()
    }

    #[test]
    fn a_request_of_many_tiny_elements_is_not_sound() {
        let api = find(ApiKey::DescribeGroups as i16, 5).unwrap();
        let of = |count: usize| {
            let mut body = Vec::new();
            let mut left = count + 1;
            while left > 0x7f {
                body.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
                left >>= 7;
            }
            body.push(u8::try_from(left).unwrap());
            body.resize(body.len() + count, 1);
            body.extend([0, 0]);
            elements(api, 5, &body).is_some()
        };
        assert!(of(1_000) && of(MOST_ELEMENTS));
        assert!(!of(MOST_ELEMENTS + 1) && !of(8 << 20));
    }

    #[test]
    fn what_is_sound_is_read_by_the_decoder_to_the_same_byte() {
        let mut state = 7;
        for api in APIS {
            for version in api.min..=api.max {
                let (mut decoded, tokens) = (0, api.layout.split_whitespace().collect::<Vec<_>>());
                for _ in 0..400 {
                    let flexible = version >= api.flexible;
                    let body = small_bytes(&mut state, flexible);
                    let mut reader =
                        Reader { rest: &body, flexible, elements_left: MOST_ELEMENTS, tag_bytes_left: MOST_TAG_BYTES };
                    let whole = reader.fields(&tokens, version).is_some() && (!flexible || reader.tagged().is_some());
                    let mut bytes = Bytes::from(body.clone());
                    if whole && RequestKind::decode(api.key, &mut bytes, version).is_ok() {
                        decoded += 1;
                        // A known tag (Fetch has the one) is read by its type, whatever length it claims.
                        if api.key != ApiKey::Fetch || !flexible {
                            assert_eq!(reader.rest.len(), bytes.len(), "{:?} v{version}: {body:?}", api.key);
                        }
                    }
                }
                assert!(decoded > 0, "{:?} v{version} was never decoded", api.key);
            }
        }
    }

    #[test]
    fn an_array_longer_than_its_frame_is_refused() {
        let produce = find(ApiKey::Produce as i16, 3).unwrap();
        let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 5];
        body.extend(i32::MAX.to_be_bytes());
        assert_eq!(elements(produce, 3, &body), None);
    }
}
