//! Storage with small, stable indices: hosts, blobs, members and transfers refer to each other by these.
//!
//! Indices are reused in a fixed order, so that a run depends on nothing but its events.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// An index into a [`Slab`].
pub(crate) trait Slot: Copy + fmt::Debug {
    fn new(index: u32) -> Self;
    fn index(self) -> usize;
}

macro_rules! slot {
    ($($(#[$doc:meta])* $name:ident),+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(u32);

        impl Slot for $name {
            fn new(index: u32) -> Self {
                Self(index)
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

slot!(
    /// A host.
    HostIx,
    /// A blob and the hosts around it.
    SwarmIx,
    /// A host's part in one swarm; an index of that swarm.
    MemberIx,
    /// A piece on its way.
    TransferIx,
    /// A zone's name.
    ZoneIx,
    /// A rack's name.
    RackIx
);

/// Values of one kind.
#[derive(Debug)]
pub(crate) struct Slab<K, T> {
    items: Vec<Option<T>>,
    free: Vec<K>,
    key: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new(), key: PhantomData }
    }
}

impl<K: Slot, T> Slab<K, T> {
    pub(crate) fn insert(&mut self, value: T) -> K {
        if let Some(key) = self.free.pop() {
            self.items[key.index()] = Some(value);
            return key;
        }
        let key = K::new(u32::try_from(self.items.len()).expect("options bound every slab far below 2^32"));
        self.items.push(Some(value));
        key
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<T> {
        let value = self.items.get_mut(key.index())?.take();
        if value.is_some() {
            self.free.push(key);
        }
        value
    }

    pub(crate) fn get(&self, key: K) -> Option<&T> {
        self.items.get(key.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.items.get_mut(key.index())?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.items.iter().zip(0u32..).filter_map(|(item, i)| Some((K::new(i), item.as_ref()?)))
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl<K: Slot, T> Index<K> for Slab<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        self.get(key).expect("an index is held only as long as what it points to lives")
    }
}

impl<K: Slot, T> IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.get_mut(key).expect("an index is held only as long as what it points to lives")
    }
}
