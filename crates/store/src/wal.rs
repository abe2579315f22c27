//! This module tells the torn end of a write-ahead log from damage in its middle.
//!
//! A crash tears the end: the last record is unfinished, or pages of what was not synced are
//! missing. Damage that an intact record follows is no crash: what was acknowledged may be lost.
//! RocksDB drops everything after the first bad record in both cases, so it is looked for before.
//!
//! ```text
//! file = blocks of 32 KiB; block = records, then fewer than 7 bytes of nothing
//! record = masked CRC-32C of type and data (4) length (2) type (1) data; all little-endian
//! type = 1: whole, 2: first part, 3: middle part, 4: last part
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Damage, and that something intact follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    file: PathBuf,
    offset: usize,
}

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;

/// Looks for damage in the write-ahead logs of a database that is closed.
pub(crate) fn find_damage(dir: &Path) -> io::Result<Option<Damage>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    let mut torn: Option<Damage> = None;
    for file in files {
        let bytes = fs::read(&file)?;
        if torn.is_some() && holds_a_start(&bytes, 0) {
            return Ok(torn);
        }
        if let Some(offset) = first_bad_record(&bytes) {
            torn = Some(Damage { file, offset });
            if holds_a_start(&bytes, offset + 1) {
                return Ok(torn);
            }
        }
    }
    Ok(None)
}

/// Where the first record begins that is not as it was written.
fn first_bad_record(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        match intact_record(bytes, at) {
            Some(record) => at += HEADER + record.data.len(),
            None => return Some(at),
        }
    }
    None
}

/// Whether an intact record with which something begins lies at or after this offset.
fn holds_a_start(bytes: &[u8], from: usize) -> bool {
    (from..bytes.len()).any(|at| {
        let begins = bytes.get(at + 6).is_some_and(|kind| matches!(kind, 1 | 2));
        begins && intact_record(bytes, at).is_some()
    })
}

struct Record<'b> {
    data: &'b [u8],
}

/// The record at this offset, if it is whole and its checksum holds.
fn intact_record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let header = bytes.get(at..at + HEADER)?;
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let end = at + HEADER + length;
    if end > (at / BLOCK + 1) * BLOCK || (header[6] == 0 && length == 0) {
        return None;
    }
    let checked = bytes.get(at + HEADER - 1..end)?;
    let expected = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (masked_crc(checked) == expected).then(|| Record { data: &checked[1..] })
}

/// The checksum as RocksDB stores it: rotated and shifted, so that checksums of checksums differ.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize]
    });
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), a byte at a time.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}, before its end", self.file.display(), self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // RFC 3720, B.4: 32 bytes of zeros.
        let unmasked = masked_crc(&[0; 32]).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0x8a91_36aa);
    }

    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let checked = [&[kind], data].concat();
        let length = u16::try_from(data.len()).unwrap();
        [&masked_crc(&checked).to_le_bytes()[..], &length.to_le_bytes(), &checked].concat()
    }

    #[test]
    fn finds_the_first_bad_record_and_whether_anything_begins_after_it() {
        let (whole, part) = (record(1, b"abc"), record(4, b"defg"));
        let mut bytes = [&whole[..], &whole, &part].concat();
        assert_eq!(first_bad_record(&bytes), None);

        bytes[12] ^= 1;
        assert_eq!(first_bad_record(&bytes), Some(10));
        assert!(!holds_a_start(&bytes, 11), "only a last part follows");
        bytes.extend(&whole);
        assert!(holds_a_start(&bytes, 11));
        assert_eq!(first_bad_record(&whole[..9]), Some(0));
    }
}
