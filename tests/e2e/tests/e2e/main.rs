//! What Damselfly promises, with real programs on both sides.

mod record;
