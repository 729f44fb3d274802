//! Small keys into the hub's tables. Four bytes each, also when optional: a subscription holds
//! several.

use std::num::NonZeroU32;

macro_rules! key {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(NonZeroU32);

        impl $name {
            pub(crate) fn new(index: usize) -> Self {
                let key = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
                Self(key.expect("memory ends long before 2^32 entries"))
            }

            pub(crate) fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }
    };
}

key! {
    /// Names an open session of one hub. Keys are used again after a session was closed.
    pub SessionKey
}
key!(pub(crate) TopicKey);
key!(pub(crate) SubscriptionKey);
