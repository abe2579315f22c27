//! This module writes and reads the fields of rows: numbers of fixed and of varying length.

/// Appends a number, seven bits a byte, the lowest first.
pub(crate) fn put_varint(row: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        row.push(value as u8 | 0x80);
        value >>= 7;
    }
    row.push(value as u8);
}

/// Appends a number of either sign: small amounts take few bytes.
pub(crate) fn put_signed(row: &mut Vec<u8>, value: i64) {
    put_varint(row, ((value << 1) ^ (value >> 63)) as u64);
}

/// What is left of a row. Every method answers `None` where the row is not as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn fixed_u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn fixed_u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            value |= bits << shift;
            if byte < 0x80 {
                return (bits << shift >> shift == bits).then_some(value);
            }
        }
        None
    }

    pub(crate) fn small(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let folded = self.varint()?;
        Some((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_their_bytes(value: u64, signed: i64) {
            let mut row = Vec::new();
            put_varint(&mut row, value);
            put_signed(&mut row, signed);

            let mut fields = Fields(&row);
            prop_assert_eq!(fields.varint(), Some(value));
            prop_assert_eq!(fields.signed(), Some(signed));
            prop_assert_eq!(fields.end(), Some(()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let mut fields = Fields(&row);
            while fields.varint().is_some() {}
        }
    }
}
