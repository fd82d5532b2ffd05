//! [`Counts`]: counts connections or requests, in total and for each address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// A number of connections or requests. Those without an address are counted in the total only.
#[derive(Debug, Default)]
pub(super) struct Counts {
    total: usize,
    /// No address has a count of zero.
    addresses: HashMap<IpAddr, usize>,
}

impl Counts {
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Those of an address, or zero without an address.
    pub(super) fn of(&self, address: Option<IpAddr>) -> usize {
        address.and_then(|address| self.addresses.get(&address)).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, address: Option<IpAddr>) {
        self.total += 1;
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
    }

    /// Removes one that was added with the same address.
    pub(super) fn remove(&mut self, address: Option<IpAddr>) {
        self.total -= 1;
        let Some(address) = address else { return };
        if let Entry::Occupied(mut count) = self.addresses.entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
