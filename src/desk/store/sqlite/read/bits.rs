//! Sets of row numbers.

/// A set of numbers that are small and dense, as those of rows are.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn set(&mut self, id: i64) {
        let Ok(id) = usize::try_from(id) else { return };
        if id / 64 >= self.0.len() {
            self.0.resize(id / 64 + 1 + self.0.len() / 2, 0);
        }
        self.0[id / 64] |= 1 << (id % 64);
    }

    pub(super) fn get(&self, id: i64) -> bool {
        usize::try_from(id)
            .ok()
            .and_then(|id| Some(self.0.get(id / 64)? >> (id % 64) & 1 == 1))
            .unwrap_or(false)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many numbers are in it.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Adds the numbers of another set.
    pub(super) fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Removes the numbers that another set has.
    pub(super) fn remove(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
    }

    /// Removes the numbers that another set hasn't.
    pub(super) fn retain(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    /// The numbers in it.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                i64::try_from(at * 64 + bit as usize).ok()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_there() {
        let mut bits = Bits::default();
        let ids = [0, 1, 63, 64, 1_000];
        ids.iter().for_each(|id| bits.set(*id));
        bits.set(-1);
        assert_eq!(bits.iter().collect::<Vec<_>>(), ids);
        assert!(ids.iter().all(|id| bits.get(*id)));
        assert!(![2, 65, 999, 100_000, -1].iter().any(|id| bits.get(*id)));
    }

    #[test]
    fn sets_of_different_lengths_are_combined() {
        let of = |ids: &[i64]| {
            let mut bits = Bits::default();
            ids.iter().for_each(|id| bits.set(*id));
            bits
        };
        let sets = [of(&[]), of(&[1, 2, 70]), of(&[2, 3, 700]), of(&[2])];
        for a in &sets {
            for b in &sets {
                let combined = |combine: fn(&mut Bits, &Bits)| {
                    let mut set = a.clone();
                    combine(&mut set, b);
                    assert_eq!(set.count(), set.iter().count() as u64);
                    set.iter().collect::<Vec<_>>()
                };
                let either = |id: &i64| a.get(*id) || b.get(*id);
                assert_eq!(combined(Bits::add), (0..1_000).filter(either).collect::<Vec<_>>());
                let only_a = |id: &i64| a.get(*id) && !b.get(*id);
                assert_eq!(combined(Bits::remove), (0..1_000).filter(only_a).collect::<Vec<_>>());
                let both = |id: &i64| a.get(*id) && b.get(*id);
                assert_eq!(combined(Bits::retain), (0..1_000).filter(both).collect::<Vec<_>>());
            }
        }
    }
}
