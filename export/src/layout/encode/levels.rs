//! Runs of small numbers: the hybrid of run lengths and packed bits that Parquet has for levels and for numbers in a dictionary
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>, "RLE").

/// Numbers in a row that are packed together.
const GROUP: usize = 8;

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The lowest bits.
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends the definition levels of so many rows behind their length: 1 where there is a value, 0 where there is none. `present`
/// has a bit for each row, the lowest of a byte first.
pub(super) fn put_levels(out: &mut Vec<u8>, present: &[u8], row_count: usize, null_count: usize) {
    let start = out.len();
    out.extend([0; 4]);
    if null_count == 0 || null_count == row_count {
        put_varint(out, (row_count as u64) << 1);
        out.push(u8::from(null_count == 0));
    } else {
        put_varint(out, (row_count.div_ceil(GROUP) as u64) << 1 | 1);
        out.extend_from_slice(present);
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends numbers below `2^bits`, and before them how many bits each has.
pub(super) fn put_numbers(out: &mut Vec<u8>, numbers: &[u32], bits: u8) {
    out.push(bits);
    // A number behind the first one that is not packed yet.
    let (mut packed, mut rest) = (numbers, numbers);
    while let Some((group, after)) = rest.split_first_chunk::<GROUP>() {
        let [first, ..] = *group;
        if group.iter().any(|number| *number != first) {
            rest = after;
            continue;
        }
        put_packed(
            out,
            packed.get(..packed.len() - rest.len()).unwrap_or_default(),
            bits,
        );
        let run = rest.iter().take_while(|number| **number == first).count();
        put_varint(out, (run as u64) << 1);
        let value_size_bytes = usize::from(bits).div_ceil(8);
        out.extend(first.to_le_bytes().iter().take(value_size_bytes));
        rest = rest.get(run..).unwrap_or_default();
        packed = rest;
    }
    put_packed(out, packed, bits);
}

/// Appends a run of packed numbers; the last group is filled up with zeros.
fn put_packed(out: &mut Vec<u8>, numbers: &[u32], bits: u8) {
    if numbers.is_empty() {
        return;
    }
    let group_count = numbers.len().div_ceil(GROUP);
    put_varint(out, (group_count as u64) << 1 | 1);
    let end = out.len() + group_count * usize::from(bits);
    let (mut word, mut filled) = (0u64, 0u32);
    for number in numbers {
        word |= u64::from(*number) << filled;
        filled += u32::from(bits);
        if filled >= 32 {
            // The lower half.
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads runs back as the format says.
    fn read(bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
        let (mut at, mut numbers) = (0, Vec::new());
        while numbers.len() < count {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[at];
                at += 1;
                header |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                let size = bits.div_ceil(8) as usize;
                let mut word = [0; 4];
                word[..size].copy_from_slice(&bytes[at..at + size]);
                at += size;
                numbers.extend(vec![u32::from_le_bytes(word); (header >> 1) as usize]);
            } else {
                for i in 0..(header >> 1) * 8 {
                    let number = (0..u64::from(bits)).fold(0u32, |number, bit| {
                        let place = i * u64::from(bits) + bit;
                        let byte = bytes[at + (place / 8) as usize];
                        number | u32::from(byte >> (place % 8) & 1) << bit
                    });
                    numbers.push(number);
                }
                at += (header >> 1) as usize * bits as usize;
            }
        }
        assert_eq!(at, bytes.len());
        numbers.truncate(count);
        numbers
    }

    #[test]
    fn numbers_round_trip() {
        for bits in 1..=24u8 {
            let limit = 1u64 << bits;
            let mixed = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % limit;
            let sets: [Vec<u32>; 5] = [
                (0..100).map(|i| mixed(i) as u32).collect(),
                vec![(limit - 1) as u32; 1000],
                (0..500u64).map(|i| mixed(i / 37) as u32).collect(),
                (0..13).map(|i| mixed(i) as u32).chain([0; 20]).collect(),
                Vec::new(),
            ];
            for numbers in sets {
                let mut out = Vec::new();
                put_numbers(&mut out, &numbers, bits);
                assert_eq!(out[0], bits);
                assert_eq!(read(&out[1..], bits.into(), numbers.len()), numbers);
            }
        }
    }

    #[test]
    fn levels_round_trip() {
        for row_count in [1, 7, 8, 9, 20_000] {
            for step in [1, 3, usize::MAX] {
                let levels: Vec<u32> = (0..row_count).map(|i| u32::from(i % step > 0)).collect();
                let mut present = vec![0u8; row_count.div_ceil(8)];
                for (i, level) in levels.iter().enumerate() {
                    present[i / 8] |= (*level as u8) << (i % 8);
                }
                let null_count = levels.iter().filter(|level| **level == 0).count();
                let mut out = vec![9];
                put_levels(&mut out, &present, row_count, null_count);
                let length = u32::from_le_bytes(out[1..5].try_into().unwrap());
                assert_eq!(length as usize, out.len() - 5);
                assert_eq!(read(&out[5..], 1, row_count), levels);
            }
        }
    }
}
