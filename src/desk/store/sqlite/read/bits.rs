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
}
