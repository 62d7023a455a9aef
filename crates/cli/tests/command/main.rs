//! The command as people and programs meet it: its binary, started.

mod demo;
mod dump;
mod forward;
mod inside;
mod machine;
mod output;
mod replay;
mod serve;
mod tools;
mod usage;
