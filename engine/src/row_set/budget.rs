//! Memory that parts of the engine share: who takes some holds a [`Charge`] for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit in bytes, and how much of it is in use.
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
    /// What is taken here is taken there too.
    parent: Option<Arc<MemoryBudget>>,
}

impl MemoryBudget {
    /// A budget of which nothing is used.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(MemoryBudget {
            limit_bytes: limit_bytes.into(),
            used_bytes: 0.into(),
            parent: None,
        })
    }

    /// The part of one consumer, so that it is known how much that uses.
    pub(crate) fn part_of(parent: &Arc<Self>) -> Arc<Self> {
        Arc::new(MemoryBudget {
            limit_bytes: u64::MAX.into(),
            used_bytes: 0.into(),
            parent: Some(parent.clone()),
        })
    }

    /// The limit, in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Sets another limit. What is above it goes as caches are asked for room.
    pub fn set_limit_bytes(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes bytes if there is room for them.
    pub fn try_charge(self: &Arc<Self>, size_bytes: u64) -> Option<Charge> {
        self.try_take(size_bytes).then(|| Charge {
            budget: self.clone(),
            size_bytes,
        })
    }

    /// Takes bytes that are needed whether there is room for them or not.
    pub fn charge(self: &Arc<Self>, size_bytes: u64) -> Charge {
        self.take(size_bytes);
        Charge {
            budget: self.clone(),
            size_bytes,
        }
    }

    /// As [`try_charge`](Self::try_charge), for who calls [`give_back`](Self::give_back) without fail.
    pub(crate) fn try_take(&self, size_bytes: u64) -> bool {
        let limit_bytes = self.limit_bytes();
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(size_bytes)
                    .filter(|used| *used <= limit_bytes)
            })
            .is_ok()
    }

    /// As [`charge`](Self::charge), for who calls [`give_back`](Self::give_back) without fail.
    pub(crate) fn take(&self, size_bytes: u64) {
        self.used_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.take(size_bytes);
        }
    }

    /// A part of the limit for a buffer, at least the smallest that is of use and at most the largest.
    pub(crate) fn share(&self, parts: u64, least: usize, most: usize) -> usize {
        let share = usize::try_from(self.limit_bytes() / parts).unwrap_or(most);
        share.clamp(least.min(most), most)
    }

    pub(crate) fn give_back(&self, size_bytes: u64) {
        self.used_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(size_bytes);
        }
    }
}

/// Bytes taken from a budget; dropping this gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    size_bytes: u64,
}

impl Charge {
    /// How many bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Takes more, whether there is room for it or not.
    pub(crate) fn grow(&mut self, size_bytes: u64) {
        self.budget.take(size_bytes);
        self.size_bytes += size_bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.size_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back_and_the_limit_holds() {
        let budget = MemoryBudget::new(100);
        let first = budget.try_charge(60).unwrap();
        assert!(budget.try_charge(41).is_none());
        let second = budget.try_charge(40).unwrap();
        let needed = budget.charge(50);
        assert_eq!((budget.used_bytes(), needed.size_bytes()), (150, 50));
        drop((first, needed));
        assert_eq!(budget.used_bytes(), 40);
        budget.set_limit_bytes(39);
        assert!(budget.try_charge(0).is_none());
        drop(second);
        assert_eq!(budget.used_bytes(), 0);

        let part = MemoryBudget::part_of(&budget);
        let mut charge = part.charge(7);
        charge.grow(3);
        assert_eq!((part.used_bytes(), budget.used_bytes()), (10, 10));
        drop(charge);
        assert_eq!((part.used_bytes(), budget.used_bytes()), (0, 0));
    }
}
