//! Indices as types. Each kind of thing has its own, so that the compiler tells a port's number from a backend's.
//!
//! A number is an index: of a backend in its service, of a port in the configuration. Numbers are handed out from 0.

use std::fmt;

/// Declares an index type over a whole number.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($raw:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name($raw);

        impl $name {
            /// The number of the thing with this index.
            ///
            /// # Panics
            /// If the index does not fit. [`limits`](crate::base::limits) bound how many things there are.
            #[inline]
            #[expect(clippy::cast_possible_truncation, reason = "asserted before")]
            pub const fn new(index: usize) -> Self {
                assert!(index <= <$raw>::MAX as usize, concat!("the limits keep a ", stringify!($name), " small"));
                $name(index as $raw)
            }

            /// The number of the thing with this index, if it fits.
            #[inline(always)]
            pub fn try_new(index: usize) -> Option<Self> {
                <$raw>::try_from(index).ok().map($name)
            }

            /// The index.
            #[inline(always)]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// A backend of one service. A service's backends are in ascending order of their addresses.
    BackendNo(u16);
    /// A service of one snapshot. The services are in the order of their ids.
    ServiceNo(u32);
    /// The counters of one backend of one service. Lent out ([`TargetLease`](crate::count::lease::TargetLease)).
    CounterNo(u32);
    /// The counters of one service. Lent out ([`ServiceLease`](crate::count::lease::ServiceLease)).
    ServiceCounterNo(u32);
    /// A port, in the order of the configuration.
    PortNo(u16);
    /// A network, in the order of the configuration: a port's untagged network, then its VLANs.
    NetworkNo(u16);
    /// A worker, in the order of the configuration.
    WorkerNo(u16);
}

impl BackendNo {
    /// No backend.
    pub const NONE: BackendNo = BackendNo(u16::MAX);
}

impl PortNo {
    /// No port.
    pub const NONE: PortNo = PortNo(u16::MAX);
}

impl CounterNo {
    /// From its raw form, which entries of the exception table hold.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        CounterNo(raw)
    }

    /// The raw form.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }
}
