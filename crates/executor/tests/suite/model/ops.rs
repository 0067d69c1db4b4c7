//! What may be done, at random.

use proptest::prelude::*;

/// Connections at a time.
pub const SLOTS: usize = 3;
/// Ids of processes in a session.
pub const PROCESSES: u8 = 3;
/// Files of a connection.
const FILES: u8 = 2;

/// One step of a client in a slot.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub slot: usize,
    /// Whether the handshake is completed first, if it can be.
    pub polite: bool,
    pub act: Act,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A new session, or the n-th that there ever was, or one that there never was.
    Initialize(Option<u8>),
    Initialized,
    /// The connection goes without a word.
    Vanish,
    /// All answers are awaited.
    Settle,
    On(u8, Deed),
    List,
    Info,
    Unknown,
    WriteFile(u8, u8),
    ReadFile(u8),
    RemoveFile(u8),
}

/// What is done to one process.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Start(Kind),
    Write(u8),
    /// The last write, with its id.
    Repeat,
    CloseStdin,
    Read,
    Poll,
    Interrupt,
    Terminate,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says what it is told, until there is no more.
    Echo,
    /// Says something and ends with 3.
    Brief,
    /// Runs for ever, and takes no input.
    Endless,
}

pub fn op() -> impl Strategy<Value = Op> {
    (0..SLOTS, proptest::bool::weighted(0.9), act()).prop_map(|(slot, polite, act)| Op { slot, polite, act })
}

fn act() -> impl Strategy<Value = Act> {
    let resume = proptest::option::weighted(0.4, 0u8..6);
    prop_oneof![
        5 => resume.prop_map(Act::Initialize),
        3 => Just(Act::Initialized),
        4 => Just(Act::Vanish),
        6 => Just(Act::Settle),
        60 => (0..PROCESSES, deed()).prop_map(|(process, deed)| Act::On(process, deed)),
        2 => Just(Act::List),
        1 => Just(Act::Info),
        1 => Just(Act::Unknown),
        3 => (0..FILES, any::<u8>()).prop_map(|(file, byte)| Act::WriteFile(file, byte)),
        3 => (0..FILES).prop_map(Act::ReadFile),
        1 => (0..FILES).prop_map(Act::RemoveFile),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let kind = prop_oneof![3 => Just(Kind::Echo), 1 => Just(Kind::Brief), 1 => Just(Kind::Endless)];
    prop_oneof![
        6 => kind.prop_map(Deed::Start),
        8 => any::<u8>().prop_map(Deed::Write),
        3 => Just(Deed::Repeat),
        2 => Just(Deed::CloseStdin),
        4 => Just(Deed::Read),
        2 => Just(Deed::Poll),
        1 => Just(Deed::Interrupt),
        2 => Just(Deed::Terminate),
    ]
}
