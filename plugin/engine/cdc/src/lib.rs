//! The rolling hash of restic's chunks: a Rabin fingerprint over a window of 64 bytes.
//!
//! In come a polynomial and bytes; out goes a hash at each byte, by which rustic_core decides where a piece of a file ends.
//! This stands in the place of the crate of the same name, with the part of its interface that rustic_core uses, for one
//! reason: rustic_core makes a hash for every file, and there each of them made its tables anew, which takes longer
//! (60 to 110 microseconds) than all the rest of a small file. Here a polynomial's tables are made once. Hashes are the same,
//! or restic and we would not find each other's pieces; tests compare them with the definition.

use std::sync::{Arc, Mutex, PoisonError};

/// A polynomial over GF(2): bit N is the coefficient of x^N.
pub type Polynom64 = u64;

/// Bytes of the window.
const WINDOW: usize = 64;

/// What polynomials can do.
pub trait Polynom {
    /// The degree; -1 of zero.
    fn degree(&self) -> i32;

    /// The remainder of a division.
    #[must_use]
    fn modulo(&self, divisor: &Self) -> Self;
}

impl Polynom for Polynom64 {
    fn degree(&self) -> i32 {
        63 - self.leading_zeros().cast_signed()
    }

    fn modulo(&self, divisor: &Self) -> Self {
        let mut rest = *self;
        while rest.degree() >= divisor.degree() {
            rest ^= divisor << (rest.degree() - divisor.degree());
        }
        rest
    }
}

/// A hash that bytes slide through.
pub trait RollingHash64 {
    /// Begins anew with the first bytes of a window; gives how many it took, one less than the window holds.
    fn reset_and_prefill_window<I: Iterator<Item = u8>>(&mut self, bytes: &mut I) -> usize;

    /// Takes one byte in, and the oldest out.
    fn slide(&mut self, byte: u8);

    /// The hash.
    fn get_hash(&self) -> &Polynom64;
}

/// What follows from a polynomial.
#[derive(Debug)]
struct Tables {
    polynomial: Polynom64,
    /// What a byte that leaves the window has become in the hash.
    leaving: [Polynom64; 256],
    /// What to add for the bits that pass the polynomial's degree, to be rid of them.
    reducing: [Polynom64; 256],
}

impl Tables {
    fn new(polynomial: Polynom64) -> Self {
        let (mut leaving, mut reducing) = ([0; 256], [0; 256]);
        for (byte, (leaving, reducing)) in (0_u64..).zip(leaving.iter_mut().zip(&mut reducing)) {
            let mut hash = byte.modulo(&polynomial);
            for _ in 1..WINDOW {
                hash = (hash << 8).modulo(&polynomial);
            }
            *leaving = hash;
            let passed = byte << polynomial.degree();
            *reducing = passed.modulo(&polynomial) | passed;
        }
        Self {
            polynomial,
            leaving,
            reducing,
        }
    }

    /// Those of the polynomial that was asked for last are kept: a process works with one repository.
    fn of(polynomial: Polynom64) -> Arc<Self> {
        static LAST: Mutex<Option<Arc<Tables>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(tables) if tables.polynomial == polynomial => Arc::clone(tables),
            _ => Arc::clone(last.insert(Arc::new(Self::new(polynomial)))),
        }
    }
}

/// The hash.
#[derive(Debug, Clone)]
pub struct Rabin64 {
    tables: Arc<Tables>,
    shift: i32,
    window: [u8; WINDOW],
    next: usize,
    /// The hash of the window.
    pub hash: Polynom64,
}

impl Rabin64 {
    /// A hash over a window of 2^6 bytes: restic has no other, and so the first argument says nothing.
    #[must_use]
    pub fn new_with_polynom(_window_size_nb_bits: u32, polynomial: &Polynom64) -> Self {
        Self {
            tables: Tables::of(*polynomial),
            shift: polynomial.degree() - 8,
            window: [0; WINDOW],
            next: 0,
            hash: 0,
        }
    }

    #[inline]
    fn take_in(&mut self, byte: u8) {
        self.window[self.next % WINDOW] = byte;
        self.next = (self.next + 1) % WINDOW;
        let passing = (self.hash >> self.shift) & 0xff;
        self.hash = (self.hash << 8 | u64::from(byte)) ^ self.tables.reducing[passing as usize];
    }
}

impl RollingHash64 for Rabin64 {
    fn reset_and_prefill_window<I: Iterator<Item = u8>>(&mut self, bytes: &mut I) -> usize {
        self.hash = 0;
        let mut taken = 0;
        for byte in bytes.take(WINDOW - 1) {
            self.take_in(byte);
            taken += 1;
        }
        // The place that the next byte takes may hold one of the window before.
        self.window[self.next % WINDOW] = 0;
        taken
    }

    #[inline]
    fn slide(&mut self, byte: u8) {
        let oldest = self.window[self.next % WINDOW];
        self.hash ^= self.tables.leaving[usize::from(oldest)];
        self.take_in(byte);
    }

    #[inline]
    fn get_hash(&self) -> &Polynom64 {
        &self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLYNOMIAL: Polynom64 = 0x003d_a335_8b4d_c173;

    /// The definition: all bytes of the window as one polynomial, and its remainder.
    fn defined(window: &[u8], polynomial: Polynom64) -> Polynom64 {
        window.iter().fold(0_u64, |hash, byte| {
            (hash << 8 | u64::from(*byte)).modulo(&polynomial)
        })
    }

    #[test]
    fn polynomials_divide() {
        assert_eq!(
            (0_u64.degree(), 1_u64.degree(), (1_u64 << 7).degree()),
            (-1, 0, 7)
        );
        for (value, divisor, rest) in [
            (7_u64, 3, 1),
            (7, 4, 3),
            (7, 2, 1),
            (16, 8, 0),
            (19, 8, 3),
            (19, 4, 3),
        ] {
            assert_eq!(value.modulo(&divisor), rest);
        }
    }

    #[test]
    fn a_hash_is_that_of_its_window_whatever_came_before() {
        let mut state = 7_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(5_000)
        .collect();
        // Polynomials in turns, so that tables of another are never taken.
        for polynomial in [POLYNOMIAL, 0x0025_1ee8_5e53_ff5b, POLYNOMIAL] {
            let mut rabin = Rabin64::new_with_polynom(6, &polynomial);
            for begins in [0, 1_000, 3] {
                let taken = rabin.reset_and_prefill_window(&mut bytes[begins..begins + 64].iter().copied());
                assert_eq!(taken, 63);
                assert_eq!(rabin.hash, defined(&bytes[begins..begins + 63], polynomial));
                for end in begins + 63..begins + 3_000 {
                    rabin.slide(bytes[end]);
                    assert_eq!(
                        *rabin.get_hash(),
                        defined(&bytes[end - 63..=end], polynomial),
                        "at {end}"
                    );
                }
            }
        }
    }
}
