//! Every packing against bytes that other programs wrote, and against itself.

use super::*;

const ROWS: usize = 3;
const COLUMNS: usize = 512;

/// The generator that `tests/golden/write.py` and `tq.c` describe.
struct Generator(u32);

impl Generator {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
        self.0 >> 16
    }
}

/// The weights that a packing's golden file was made from.
fn weights(packing: Packing) -> Vec<i8> {
    let mut generator = Generator(1);
    match packing {
        Packing::S34 | Packing::S24 => (0..ROWS * COLUMNS / 4)
            .flat_map(|_| {
                let number = generator.next() as usize;
                if packing == Packing::S34 {
                    S34[number % 32]
                } else {
                    S24[number % 24]
                }
            })
            .collect(),
        Packing::Q1G128 => (0..ROWS * COLUMNS)
            .map(|_| (generator.next() % 2) as i8 * 2 - 1)
            .collect(),
        _ => (0..ROWS * COLUMNS)
            .map(|_| (generator.next() % 3) as i8 - 1)
            .collect(),
    }
}

fn golden(packing: Packing) -> &'static [u8] {
    match packing {
        Packing::T2 => include_bytes!("../../../tests/golden/t2.bin"),
        Packing::T5 => include_bytes!("../../../tests/golden/t5.bin"),
        Packing::T5Words => include_bytes!("../../../tests/golden/t5_words.bin"),
        Packing::S34 => include_bytes!("../../../tests/golden/s34.bin"),
        Packing::S24 => include_bytes!("../../../tests/golden/s24.bin"),
        Packing::Tq1_0 => include_bytes!("../../../tests/golden/tq1_0.bin"),
        Packing::Tq2_0 => include_bytes!("../../../tests/golden/tq2_0.bin"),
        Packing::I2S => include_bytes!("../../../tests/golden/i2_s.bin"),
        Packing::Q2G128 => include_bytes!("../../../tests/golden/q2_0_g128.bin"),
        Packing::Q1G128 => include_bytes!("../../../tests/golden/q1_0_g128.bin"),
    }
}

/// Bytes of 1000 weights' worth of rows: the formulas of docs/formats.md.
#[test]
fn sizes_follow_the_formulas() {
    for (packing, columns, bytes) in [
        (Packing::T2, 6913, 1729),
        (Packing::T5, 6912, 1383),
        (Packing::T5Words, 6912, 1384),
        (Packing::S34, 6912, 1080),
        (Packing::S24, 6912, 1080),
        (Packing::Tq1_0, 6912, 1458),
        (Packing::Tq2_0, 6912, 1782),
        (Packing::I2S, 6912, 1728),
        (Packing::Q2G128, 6912, 1836),
        (Packing::Q1G128, 6912, 972),
    ] {
        assert_eq!(packing.row_bytes(columns), Ok(bytes), "{}", packing.name());
        assert_eq!(Packing::named(packing.name()), Some(packing));
    }
    assert!(Packing::Tq2_0.row_bytes(576).is_err());
    assert!(Packing::S34.row_bytes(36).is_err());
    assert!(Packing::T2.row_bytes(0).is_err());
}

#[test]
fn golden_bytes_are_written_and_read() {
    for packing in Packing::ALL {
        let weights = weights(packing);
        let scales = vec![0.25; packing.group().map_or(0, |group| COLUMNS / group)];
        let mut bytes = Vec::new();
        for row in weights.chunks_exact(COLUMNS) {
            packing.encode(row, &scales, &mut bytes).unwrap();
        }
        let mut golden = golden(packing);
        if packing == Packing::I2S {
            let (rows, tail) = golden.split_at(golden.len() - I2_S_TAIL);
            assert_eq!(tail[..4], 0.25_f32.to_le_bytes());
            golden = rows;
        }
        assert!(
            bytes == golden,
            "{} differs from its golden file",
            packing.name()
        );

        let outside = if packing.group().is_some() { 1.0 } else { 0.25 };
        let matrix =
            TernaryRows::new(packing, COLUMNS, ROWS, golden, Outside::Matrix(outside)).unwrap();
        assert_eq!(matrix.scale().unwrap(), Some(0.25));
        let mut row = Row::default();
        for (index, expected) in weights.chunks_exact(COLUMNS).enumerate() {
            matrix.read(index, &mut row).unwrap();
            assert_eq!(row.trits, expected, "{}", packing.name());
            assert_eq!(row.scale(), Uniform::One(0.25));
        }
    }
}

#[test]
fn odd_widths_return() {
    let mut generator = Generator(7);
    for packing in [Packing::T2, Packing::T5, Packing::T5Words] {
        for columns in 1..70 {
            let trits: Vec<i8> = (0..columns)
                .map(|_| (generator.next() % 3) as i8 - 1)
                .collect();
            let (mut row, mut back) = (Vec::new(), vec![9; columns]);
            packing.encode(&trits, &[], &mut row).unwrap();
            packing.decode(&row, &mut back, &mut Vec::new()).unwrap();
            assert_eq!(back, trits, "{}, {columns} columns", packing.name());
        }
    }
}

#[test]
fn codebooks_hold_each_pattern_once() {
    for (table, zeros, count) in [(&S34[..], 1, 32), (&S24[..], 2, 24)] {
        let mut seen = std::collections::HashSet::new();
        for group in table {
            assert_eq!(group.iter().filter(|&&trit| trit == 0).count(), zeros);
            assert!(seen.insert(group));
        }
        assert_eq!(seen.len(), count);
    }
}

#[test]
fn what_a_packing_cannot_hold_is_refused_with_its_place() {
    let mut trits = weights(Packing::S34)[..64].to_vec();
    trits[8..12].copy_from_slice(&[0, 0, 1, -1]);
    let error = Packing::S34
        .encode(&trits, &[], &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "columns 8 to 11 hold 2 zeros, but s34 stores exactly 1"
    );
    assert!(Packing::S24.encode(&trits, &[], &mut Vec::new()).is_err());
    let error = Packing::Q1G128
        .encode(&[0; 128], &[1.0], &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "column 0 is zero, which Q1_0_g128 cannot store"
    );
    let error = Packing::Tq2_0
        .encode(&[1; 256], &[0.1], &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "TQ2_0 stores its scales as F16, which cannot hold 0.1 exactly"
    );
}

#[test]
fn meaningless_codes_are_refused_with_their_place() {
    let decode = |packing: Packing, row: &[u8], columns: usize| {
        packing
            .decode(row, &mut vec![0; columns], &mut Vec::new())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        decode(Packing::T2, &[0x55, 0x0c], 8),
        "the t2 code 3 at column 5 means no weight"
    );
    assert_eq!(
        decode(Packing::T5, &[0, 243], 8),
        "the t5 code 243 at column 5 means no weight"
    );
    assert_eq!(
        decode(Packing::S24, &[0xff; 5], 32),
        "the s24 code 31 at column 0 means no weight"
    );
    assert_eq!(
        decode(Packing::Tq2_0, &[0xff; 66], 256),
        "the TQ2_0 code 3 at column 0 means no weight"
    );
    assert!(decode(Packing::T2, &[0], 8).contains("more than the 1 bytes"));
}

#[test]
fn differing_scales_are_seen() {
    let (mut row, trits) = (Vec::new(), [1; 256]);
    Packing::Q2G128
        .encode(&trits, &[0.5, 0.25], &mut row)
        .unwrap();
    let matrix = TernaryRows::new(Packing::Q2G128, 256, 1, &row, Outside::Matrix(2.0)).unwrap();
    assert_eq!(matrix.scale().unwrap(), None);
    let mut read = Row::default();
    matrix.read(0, &mut read).unwrap();
    assert_eq!(read.scales, [1.0, 0.5]);
    assert_eq!(read.scale_of(0..128), Uniform::One(1.0));
    assert_eq!(read.scale_of(64..192), Uniform::Many);
    // A group of zeros has no say.
    row.clear();
    Packing::Q2G128
        .encode(&[[1; 128], [0; 128]].concat(), &[0.5, 0.25], &mut row)
        .unwrap();
    let matrix = TernaryRows::new(Packing::Q2G128, 256, 1, &row, Outside::Matrix(1.0)).unwrap();
    assert_eq!(matrix.scale().unwrap(), Some(0.5));
}
