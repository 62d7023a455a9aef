//! rxpath
fn main() {}
