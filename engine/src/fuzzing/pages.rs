//! Pages of delta files: their seal, and what lies in each kind of them.

use super::input::{Input, damaged};
use super::{DATABASE, noise};
use crate::row_set::directory::{Node, NodeBuilder};
use crate::row_set::page::{
    Compression, PageEncoder, PageKind, PagePlace, PageScratch, PageSeed, decode_page,
};
use crate::row_set::patch::{TargetOrdinals, decode_ordinals};
use crate::row_set::rows_page::{RowRef, RowsLayout, RowsView};
use crate::row_set::rows_page_builder::RowsPageBuilder;

const COMPRESSIONS: [Compression; 3] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd { level: 1 },
];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (i, key_len) in [0, 4, 4, 9].into_iter().enumerate() {
        let mut rows = RowsPageBuilder::default();
        for n in 0..20u8 {
            let key = vec![n; key_len + usize::from(n) % (i + 1)];
            let value = vec![n; usize::from(n) % (2 * i + 1)];
            let value = (i != 2 || n % 3 > 0).then_some(value.as_slice());
            rows.push(RowRef { key: &key, value });
        }
        let mut content = Vec::new();
        rows.encode(&mut content);
        seeds.push([&[0], &content[..]].concat());
    }
    let mut node = NodeBuilder::default();
    for n in 0..9u8 {
        node.push(u64::from(n) * 400 + 48, &[n, 7]);
    }
    let mut content = Vec::new();
    node.encode(4000, &mut content);
    seeds.push([&[1], &content[..]].concat());
    let mut ordinals = TargetOrdinals::default();
    for ordinal in [0, 1, 7, 300, 70_000] {
        ordinals.push(ordinal, true);
    }
    seeds.push([&[2, 5, 0], ordinals.content()].concat());
    seeds.extend(
        noise(6, 90)
            .into_iter()
            .map(|bytes| [&[3], &bytes[..]].concat()),
    );
    seeds
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(5) {
        0 => rows(input.rest()),
        1 => directory(input.rest()),
        2 => ordinals(&mut input),
        3 => seal(&mut input),
        _ => compressed(&mut input),
    }
}

/// A page that is taken has rows within itself, and is made again from these.
fn rows(content: &[u8]) {
    let Ok(layout) = RowsLayout::decode(content) else {
        return;
    };
    let view = RowsView::new(content, layout);
    let rows: Vec<RowRef<'_>> = view.iter().collect();
    assert_eq!(rows.len(), view.row_count());
    let (mut key_bytes, mut value_bytes) = (0, 0);
    for (slot, row) in rows.iter().enumerate() {
        assert_eq!(view.get(slot).as_ref(), Some(row));
        view.touch(slot);
        view.touch_values(slot, 64);
        assert!(view.lower_bound(row.key) <= rows.len());
        key_bytes += row.key.len();
        value_bytes += view.live_value(slot).len();
    }
    assert_eq!(view.get(rows.len()), None);
    assert_eq!(
        (key_bytes, value_bytes),
        (view.key_bytes().len(), view.value_bytes().len())
    );
    view.touch_keys();
    if rows.is_empty() || rows.len() > 512 {
        return;
    }
    let mut builder = RowsPageBuilder::default();
    rows.iter().for_each(|row| builder.push(*row));
    let mut again = Vec::new();
    builder.encode(&mut again);
    let again_view = RowsView::new(&again, RowsLayout::decode(&again).unwrap());
    assert!(again_view.iter().eq(rows.iter().copied()));
    if rows.is_sorted_by(|a, b| a.key < b.key) {
        for (slot, row) in rows.iter().enumerate() {
            assert_eq!(view.lower_bound(row.key), slot);
        }
    }
}

/// A node finds each of its children by the child's separator, if these ascend.
fn directory(content: &[u8]) {
    let Ok(node) = Node::decode(content) else {
        return;
    };
    let count = node.child_count();
    let separators: Vec<&[u8]> = (0..count).map(|child| node.separator(child)).collect();
    for (child, separator) in separators.iter().enumerate() {
        if let Ok((start, end)) = node.span(child) {
            assert!(start < end);
        }
        assert!(node.find(separator) < count);
    }
    assert!(node.span(count).is_err());
    if separators.is_sorted_by(|a, b| a < b) {
        for (child, separator) in separators.iter().enumerate() {
            assert_eq!(node.find(separator), child);
        }
    }
}

/// Ordinals ascend whatever the bytes, and are encoded to those that there were.
fn ordinals(input: &mut Input<'_>) {
    let count = input.u16().into();
    let mut found = Vec::new();
    let decoded = decode_ordinals(input.rest(), count, |ordinal| {
        found.push(ordinal);
        Ok(())
    });
    assert!(found.is_sorted_by(|a, b| a < b));
    if decoded.is_err() {
        return;
    }
    let mut again = TargetOrdinals::default();
    found.iter().for_each(|ordinal| again.push(*ordinal, true));
    let mut found_again = Vec::new();
    let decoded = decode_ordinals(again.content(), count, |ordinal| {
        found_again.push(ordinal);
        Ok(())
    });
    assert_eq!((decoded, found_again), (Ok(()), found));
}

const KINDS: [PageKind; 3] = [PageKind::Rows, PageKind::Index, PageKind::Patch];

/// A page comes back as it was, and not at all once anything of it, or its place, is another.
fn seal(input: &mut Input<'_>) {
    let place = PagePlace {
        offset: input.u16().into(),
        kind: KINDS[input.below(3)],
        number: input.u8().into(),
    };
    let seed = PageSeed::new(DATABASE, input.u8().into());
    let compression = COMPRESSIONS[input.below(3)];
    let content = input.bytes(200).repeat(1 + input.below(4));
    let mut stored = Vec::new();
    let mut encoder = PageEncoder::new(seed, compression).unwrap();
    let stored_size_bytes = encoder.append(place, &content, &mut stored).unwrap();
    assert_eq!(stored_size_bytes, stored.len() as u64);
    let mut scratch = PageScratch::default();
    assert_eq!(
        decode_page(&stored, place, seed, &mut scratch),
        Ok(&content[..])
    );
    let elsewhere = PagePlace {
        offset: place.offset + 1,
        ..place
    };
    assert!(decode_page(&stored, elsewhere, seed, &mut scratch).is_err());
    let damaged = damaged(&stored, input);
    assert!(damaged == stored || decode_page(&damaged, place, seed, &mut scratch).is_err());
}

/// A page whose seal is right and that says anything else of itself: it decompresses to what it says, or not at all.
fn compressed(input: &mut Input<'_>) {
    let place = PagePlace {
        offset: 48,
        kind: PageKind::Rows,
        number: 0,
    };
    let seed = PageSeed::new(DATABASE, 1);
    let stored_as = input.below(4) as u8;
    let len = u32::from(input.u16());
    let content = input.rest();
    let mut covered = vec![1, stored_as, 0, 0, 0, 0, 0, 0];
    covered.extend_from_slice(&(content.len() as u32).to_le_bytes());
    covered.extend_from_slice(&len.to_le_bytes());
    covered.extend_from_slice(content);
    let checksum = seed.checksum(&covered, place.offset);
    let stored = [&checksum.to_le_bytes(), &covered[..]].concat();
    if let Ok(content) = decode_page(&stored, place, seed, &mut PageScratch::default()) {
        assert_eq!(content.len(), len as usize);
    }
}
