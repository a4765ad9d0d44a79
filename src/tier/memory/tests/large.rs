//! Values that take many pieces, or that no pieces are enough for.

use super::*;

#[test]
fn a_large_value_fits_where_the_memory_is_in_pieces() {
    let b = Bench::new(4 << 20);
    let mut i = 0;
    while b.counter(Counter::Evictions) < 100 {
        b.set(format!("{i}"), vec![b'x'; i % 300]);
        i += 1;
    }
    // Every second item goes, so that no hole is large.
    for j in (0..i).step_by(2) {
        b.delete(format!("{j}"));
    }
    let value: Vec<u8> = (0..1_048_516_u32).map(|i| (i * 7 % 253) as u8).collect();
    // So many small items are not evicted at once.
    let is_stored = |_| {
        b.memory.turn(b.now);
        matches!(b.set("L", &value), Seen::Other(said) if said.starts_with("Stored"))
    };
    assert!((0..100).any(is_stored));
    assert_eq!(b.value("L"), Some(value.clone()));
    assert!(!b.read("L", |_| panic!("it is not in one piece")));
    let held = b.hold("L");
    let pieces = held.show(0, &mut |pieces| pieces.count());
    assert!(pieces > 100, "{pieces} pieces");
    // Copies of any length, going on, back and beyond the end.
    for (offset, n) in [(0, 7), (7, 4096), (4103, 65_536), (1, 1), (1_048_000, 4096), (69_639, 9)] {
        let mut out = vec![0; n];
        let copied = held.copy_to(offset, &mut out);
        assert_eq!(copied, n.min(value.len() - offset));
        assert_eq!(out[..copied], value[offset..offset + copied]);
        let mut shown = Vec::new();
        let taken = held.show(offset, &mut |pieces| {
            pieces.for_each(|piece| shown.extend_from_slice(piece));
            n
        });
        assert_eq!((taken, &shown[..]), (n, &value[offset..]));
    }
    for offset in [value.len(), usize::MAX] {
        assert_eq!(held.show(offset, &mut |pieces| pieces.count()), 0);
    }
    assert_eq!(held.copy_to(value.len(), &mut [0]), 0);
    assert_eq!(held.copy_to(usize::MAX, &mut [0]), 0);
    b.check(&[&held]);
    b.delete("L");
    b.check(&[&held]);
    drop(held);
    b.check(&[]);
}

#[test]
fn an_item_larger_than_the_memory_evicts_nothing() {
    let b = Bench::new(BYTES_MIN);
    b.set("k", "v");
    assert_eq!(b.set("L", vec![0; BYTES_MIN]), said("OutOfMemory"));
    assert!(b.value("k").is_some());
    assert_eq!(b.counter(Counter::StoreNoMemory), 1);
}
