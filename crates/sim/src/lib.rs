//! rxpath
