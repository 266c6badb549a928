//! The sector: the 512 bytes that a disk writes entirely or not at all.
//!
//! | Bytes | Field |
//! |---|---|
//! | 4 | magic `C7 56 58 57` |
//! | 4 | ordinal of the frame in its segment, from 1 |
//! | 4 | part: which sector of the frame this is, from 0 |
//! | 4 | parts: how many sectors the frame has |
//! | 4 | synced: the ordinal of the newest frame of the segment that was known to be durable when this one was written, 0 for none |
//! | 484 | part of the frame, zero-padded in its last sector |
//! | 4 | CRC-32 of the 504 bytes above, starting from the CRC-32 of the salt of the segment |
//! | 4 | end mark `B5 45 4E 44` |
//!
//! Integers are little-endian. Neither the magic nor the end mark contains a zero byte, so a sector that was written
//! is never all zero, and one that was cut short (the rest being zero) ends with a zero byte. This is what lets
//! recovery tell what was never written from what was changed.

pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const PAYLOAD_BYTES: usize = SECTOR_BYTES - HEAD_BYTES - TAIL_BYTES;
const HEAD_BYTES: usize = 20;
const TAIL_BYTES: usize = 8;
const CHECKED_BYTES: usize = SECTOR_BYTES - TAIL_BYTES;
const MAGIC: [u8; 4] = [0xC7, b'V', b'X', b'W'];
const END: [u8; 4] = [0xB5, b'E', b'N', b'D'];
const ZERO: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

/// Which sector this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ordinal: u32,
    pub(super) part: u32,
    pub(super) parts: u32,
    pub(super) synced: u32,
}

/// What 512 bytes turn out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sector<'a> {
    /// Never written.
    Zero,
    /// Written, whole, and unchanged.
    Whole(Place, &'a [u8]),
    /// Neither.
    Damaged,
}

/// Appends a sector with this payload to `out`.
pub(super) fn write(out: &mut Vec<u8>, seed: u32, place: Place, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    for field in [place.ordinal, place.part, place.parts, place.synced] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(payload);
    out.resize(start + CHECKED_BYTES, 0);
    let checksum = checksum(seed, &out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&END);
}

/// Tells what the bytes are.
pub(super) fn read(bytes: &[u8; SECTOR_BYTES], seed: u32) -> Sector<'_> {
    if *bytes == ZERO {
        return Sector::Zero;
    }
    let (checked, tail) = bytes.split_at(CHECKED_BYTES);
    if checked[..4] != MAGIC || tail[4..] != END || tail[..4] != checksum(seed, checked).to_le_bytes() {
        return Sector::Damaged;
    }
    let [ordinal, part, parts, synced] = [4, 8, 12, 16]
        .map(|at| u32::from_le_bytes([checked[at], checked[at + 1], checked[at + 2], checked[at + 3]]));
    Sector::Whole(Place { ordinal, part, parts, synced }, &checked[HEAD_BYTES..])
}

/// Whether a damaged sector can be the beginning of the one expected here, the rest being zero.
pub(super) fn is_beginning(bytes: &[u8; SECTOR_BYTES], ordinal: u32, part: u32) -> bool {
    let mut expected = [0; 12];
    expected[..4].copy_from_slice(&MAGIC);
    expected[4..8].copy_from_slice(&ordinal.to_le_bytes());
    expected[8..].copy_from_slice(&part.to_le_bytes());
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let known = written.min(expected.len());
    written < SECTOR_BYTES && bytes[..known] == expected[..known]
}

fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { ordinal: 3, part: 1, parts: 2, synced: 2 };

    fn sample() -> [u8; SECTOR_BYTES] {
        let mut out = Vec::new();
        write(&mut out, 7, PLACE, b"payload");
        out.try_into().unwrap()
    }

    #[test]
    fn a_sector_reads_back() {
        let bytes = sample();
        let Sector::Whole(place, payload) = read(&bytes, 7) else { panic!("not whole") };
        assert_eq!(place, PLACE);
        assert_eq!((payload.len(), &payload[..7]), (PAYLOAD_BYTES, &b"payload"[..]));
        assert_eq!(read(&bytes, 8), Sector::Damaged, "of another segment");
        assert_eq!(read(&ZERO, 7), Sector::Zero);
    }

    #[test]
    fn every_flipped_bit_is_damage_and_never_a_beginning() {
        let good = sample();
        for bit in 0..SECTOR_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad, 7), Sector::Damaged);
            assert!(!is_beginning(&bad, 3, 1), "bit {bit}");
            let mut lone = ZERO;
            lone[bit / 8] = 1 << (bit % 8);
            assert_eq!(read(&lone, 7), Sector::Damaged);
            assert!(!is_beginning(&lone, 3, 1), "lone bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_a_beginning() {
        let good = sample();
        for len in 1..SECTOR_BYTES {
            let mut cut = ZERO;
            cut[..len].copy_from_slice(&good[..len]);
            assert_eq!(read(&cut, 7), Sector::Damaged);
            assert!(is_beginning(&cut, 3, 1), "cut at {len}");
        }
    }
}
