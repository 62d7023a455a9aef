//! The cases: what is sent, and how each stack is set up for it.

use std::fmt;
use std::str::FromStr;

/// Segments that arrive together.
pub const BURST: usize = 32;

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Segments of 64 bytes in bursts of 32 on one connection, GRO on.
    Tcp64,
    /// The same with GRO off.
    Tcp64NoGro,
    /// Segments of 1,448 bytes in bursts of 32 on one connection, GRO on.
    Tcp1448,
    /// As [`Case::Tcp64`], two connections on two Cpus in two threads against one connection on one Cpu. rxpath alone.
    TwoQueues,
}

impl Case {
    /// All cases.
    pub const ALL: [Case; 4] = [Case::Tcp64, Case::Tcp64NoGro, Case::Tcp1448, Case::TwoQueues];

    /// The name as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Case::Tcp64 => "tcp-64",
            Case::Tcp64NoGro => "tcp-64-nogro",
            Case::Tcp1448 => "tcp-1448",
            Case::TwoQueues => "two-queues",
        }
    }

    /// What is measured, in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Case::Tcp64 => "64-byte segments, bursts of 32, one connection, GRO on",
            Case::Tcp64NoGro => "64-byte segments, bursts of 32, one connection, GRO off",
            Case::Tcp1448 => "1,448-byte segments, bursts of 32, one connection, GRO on",
            Case::TwoQueues => "tcp-64 on two queues, Cpus and threads, against one of each",
        }
    }

    /// The ratio that the project set itself.
    pub const fn goal(self) -> f64 {
        match self {
            Case::Tcp64 => 4.0,
            Case::Tcp64NoGro => 1.3,
            Case::Tcp1448 => 1.6,
            Case::TwoQueues => 1.7,
        }
    }

    /// Payload bytes of a segment.
    pub const fn payload(self) -> usize {
        match self {
            Case::Tcp1448 => 1_448,
            _ => 64,
        }
    }

    /// Whether rxpath's GRO is on.
    pub const fn gro(self) -> bool {
        !matches!(self, Case::Tcp64NoGro)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no case of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCase {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Case::ALL.iter().map(|case| case.name()).collect();
        write!(f, "no case {:?}; there are {}", self.name, known.join(", "))
    }
}

impl std::error::Error for UnknownCase {}

impl FromStr for Case {
    type Err = UnknownCase;

    fn from_str(name: &str) -> Result<Case, UnknownCase> {
        let found = Case::ALL.into_iter().find(|case| case.name() == name.trim());
        found.ok_or_else(|| UnknownCase { name: name.trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_case_and_others_are_told_the_names() {
        for case in Case::ALL {
            assert_eq!(case.name().parse(), Ok(case));
        }
        let unknown = " udp".parse::<Case>().expect_err("no such case");
        assert_eq!(unknown.to_string(), "no case \"udp\"; there are tcp-64, tcp-64-nogro, tcp-1448, two-queues");
    }
}
