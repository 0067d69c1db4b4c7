//! Which requests of one connection wait for which: the pure scheduler.
//!
//! In flows the class of each request as it arrives and the ticket of each that is finished; out flow the tickets that
//! may run. What starts a process or changes a file keeps arrival order; a read waits for the changes before it, and a
//! change for earlier reads of the same path; the requests about one process wait for its start, and its stdin is
//! written in order. Nothing else waits, so a long poll or a blocked write holds up nobody. It knows no clock, no task
//! and no method.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use exedra_proto::ids::ProcessId;

/// What a request touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Looks at a file or directory.
    FileRead(PathBuf),
    /// Changes what is at, or below, this path.
    FileChange(PathBuf),
    /// Opens a handle, which looks at, or changes, this path.
    Open {
        /// The handle.
        handle: String,
        /// The path.
        path: PathBuf,
        /// Whether it is changed.
        changes: bool,
    },
    /// Works on an open handle.
    Handle(String),
    /// Sets a watch.
    Watch,
    /// Starts this process, which may change any file.
    Start(ProcessId),
    /// Writes to, or ends, the stdin of this process.
    Stdin(ProcessId),
    /// Anything else about this process.
    Process(ProcessId),
    /// Stands aside from everything.
    Aside,
}

/// A request that was admitted; later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The requests of one connection that are not finished.
#[derive(Debug, Default)]
pub struct Order {
    admitted: u64,
    unfinished: HashMap<Ticket, Node>,
    reads: BTreeMap<Ticket, PathBuf>,
    last_change: Option<Ticket>,
    last_start: HashMap<ProcessId, Ticket>,
    last_stdin: HashMap<ProcessId, Ticket>,
    last_handle: HashMap<String, Ticket>,
    last_watch: Option<Ticket>,
}

#[derive(Debug)]
struct Node {
    class: Class,
    waits_for: usize,
    releases: Vec<Ticket>,
}

impl Order {
    /// Takes a request in; true if it may run at once.
    pub fn admit(&mut self, class: Class) -> (Ticket, bool) {
        self.admitted += 1;
        let ticket = Ticket(self.admitted);
        let blockers = self.blockers(&class);
        for blocker in &blockers {
            if let Some(node) = self.unfinished.get_mut(blocker) {
                node.releases.push(ticket);
            }
        }
        self.remember(ticket, &class);
        self.unfinished.insert(ticket, Node { class, waits_for: blockers.len(), releases: Vec::new() });
        (ticket, blockers.is_empty())
    }

    /// Takes note that a request is finished, and names those that may run now, in order of arrival.
    pub fn finish(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let Some(node) = self.unfinished.remove(&ticket) else { return Vec::new() };
        self.forget(ticket, &node.class);
        let mut ready = Vec::new();
        for waiting in node.releases {
            if let Some(node) = self.unfinished.get_mut(&waiting) {
                node.waits_for -= 1;
                if node.waits_for == 0 {
                    ready.push(waiting);
                }
            }
        }
        ready
    }

    /// How many are not finished.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Unfinished requests that one of `class` must wait for, each once. A chain is represented by its last link.
    fn blockers(&self, class: &Class) -> Vec<Ticket> {
        match class {
            Class::FileRead(_) | Class::Start(_) => self.last_change.into_iter().collect(),
            Class::FileChange(path) => {
                let same = |read: &PathBuf| read.starts_with(path) || path.starts_with(read);
                let reads = self.reads.iter().filter(|(_, read)| same(read)).map(|(ticket, _)| *ticket);
                self.last_change.into_iter().chain(reads).collect()
            }
            Class::Open { handle, path, changes } => {
                let mut blockers = match changes {
                    true => self.blockers(&Class::FileChange(path.clone())),
                    false => self.blockers(&Class::FileRead(path.clone())),
                };
                blockers.extend(self.last_handle.get(handle).filter(|last| !blockers.contains(last)).copied());
                blockers
            }
            Class::Handle(handle) => self.last_handle.get(handle).copied().into_iter().collect(),
            Class::Watch => self.last_watch.into_iter().collect(),
            Class::Stdin(process) => {
                let start = self.last_start.get(process);
                start.into_iter().chain(self.last_stdin.get(process)).copied().collect()
            }
            Class::Process(process) => self.last_start.get(process).copied().into_iter().collect(),
            Class::Aside => Vec::new(),
        }
    }

    fn remember(&mut self, ticket: Ticket, class: &Class) {
        match class {
            Class::FileRead(path) => {
                self.reads.insert(ticket, path.clone());
            }
            Class::FileChange(_) => self.last_change = Some(ticket),
            Class::Start(process) => {
                self.last_change = Some(ticket);
                self.last_start.insert(process.clone(), ticket);
            }
            Class::Stdin(process) => {
                self.last_stdin.insert(process.clone(), ticket);
            }
            Class::Open { handle, path, changes } => {
                match changes {
                    true => self.last_change = Some(ticket),
                    false => drop(self.reads.insert(ticket, path.clone())),
                }
                self.last_handle.insert(handle.clone(), ticket);
            }
            Class::Handle(handle) => {
                self.last_handle.insert(handle.clone(), ticket);
            }
            Class::Watch => self.last_watch = Some(ticket),
            Class::Process(_) | Class::Aside => {}
        }
    }

    fn forget(&mut self, ticket: Ticket, class: &Class) {
        if self.last_change == Some(ticket) {
            self.last_change = None;
        }
        if self.last_watch == Some(ticket) {
            self.last_watch = None;
        }
        match class {
            Class::FileRead(_) => {
                self.reads.remove(&ticket);
            }
            Class::Open { handle, .. } | Class::Handle(handle) => {
                self.reads.remove(&ticket);
                if self.last_handle.get(handle) == Some(&ticket) {
                    self.last_handle.remove(handle);
                }
            }
            Class::Start(process) if self.last_start.get(process) == Some(&ticket) => {
                self.last_start.remove(process);
            }
            Class::Stdin(process) if self.last_stdin.get(process) == Some(&ticket) => {
                self.last_stdin.remove(process);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pid(name: &str) -> ProcessId {
        ProcessId::new(name)
    }

    fn file(path: &str) -> PathBuf {
        PathBuf::from(path)
    }

    #[test]
    fn terminate_passes_a_blocked_write() {
        let mut order = Order::default();
        assert!(order.admit(Class::Stdin(pid("p"))).1);
        assert!(!order.admit(Class::Stdin(pid("p"))).1);
        assert!(order.admit(Class::Stdin(pid("q"))).1);
        assert!(order.admit(Class::Process(pid("p"))).1);
    }

    #[test]
    fn one_handle_keeps_its_order_and_holds_up_no_other() {
        let mut order = Order::default();
        let open = |path: &str, changes| Class::Open { handle: "h".into(), path: file(path), changes };
        let (opened, ready) = order.admit(open("/f", true));
        assert!(ready);
        let (first, ready) = order.admit(Class::Handle("h".into()));
        assert!(!ready);
        let (second, _) = order.admit(Class::Handle("h".into()));
        assert!(order.admit(Class::Handle("other".into())).1);
        let (read, ready) = order.admit(Class::FileRead(file("/f")));
        assert!(!ready, "it may be cut off");
        let freed = order.finish(opened);
        assert!(freed.contains(&first) && freed.contains(&read));
        order.finish(read);
        assert!(order.admit(Class::FileChange(file("/f"))).1, "a block that hangs holds up no change");
        assert_eq!(order.finish(first), [second]);
        assert!(order.finish(second).is_empty());
        assert!(order.last_handle.len() == 1, "only the other");
    }

    #[test]
    fn watches_keep_their_order() {
        let mut order = Order::default();
        let (first, _) = order.admit(Class::Watch);
        let (second, ready) = order.admit(Class::Watch);
        assert!(!ready);
        assert_eq!(order.finish(first), [second]);
        order.finish(second);
        assert!(order.admit(Class::Watch).1);
    }

    #[test]
    fn a_process_is_started_before_it_is_used() {
        let mut order = Order::default();
        let (start, ready) = order.admit(Class::Start(pid("p")));
        assert!(ready);
        let (write, _) = order.admit(Class::Stdin(pid("p")));
        let (read, ready) = order.admit(Class::Process(pid("p")));
        assert!(!ready);
        assert!(order.admit(Class::Process(pid("q"))).1);
        assert_eq!(order.finish(start), [write, read]);
        assert!(order.finish(start).is_empty());
    }

    #[test]
    fn a_read_that_hangs_holds_up_only_changes_of_its_path() {
        let mut order = Order::default();
        let (hung, _) = order.admit(Class::FileRead(file("/nfs/f")));
        assert!(order.admit(Class::FileRead(file("/nfs/f"))).1);
        assert!(order.admit(Class::Start(pid("p"))).1);
        let mut order = Order::default();
        let (read, _) = order.admit(Class::FileRead(file("/nfs/f")));
        assert_eq!(read, hung);
        let (other, ready) = order.admit(Class::FileChange(file("/tmp/x")));
        assert!(ready);
        order.finish(other);
        let (below, ready) = order.admit(Class::FileChange(file("/nfs")));
        assert!(!ready);
        assert_eq!(order.finish(read), [below]);
    }

    /// The rule in plain words: must `later` wait for the unfinished `earlier`?
    fn conflict(earlier: &Class, later: &Class) -> bool {
        let change = |c: &Class| matches!(c, Class::FileChange(_) | Class::Start(_));
        match (earlier, later) {
            (Class::FileRead(read), Class::FileChange(path)) => read.starts_with(path) || path.starts_with(read),
            (e, Class::FileRead(_)) => change(e),
            (e, l) if change(e) && change(l) => true,
            (Class::Start(s), Class::Stdin(p) | Class::Process(p)) => s == p,
            (Class::Stdin(w), Class::Stdin(p)) => w == p,
            _ => false,
        }
    }

    struct Seed(u64);

    impl Seed {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }

        fn class(&mut self) -> Class {
            let process = pid(["p", "q", "r"][self.below(3) as usize]);
            let path = file(["/a", "/a/b", "/a/c", "/d"][self.below(4) as usize]);
            match self.below(6) {
                0 => Class::FileRead(path),
                1 => Class::FileChange(path),
                2 => Class::Start(process),
                3 => Class::Stdin(process),
                4 => Class::Process(process),
                _ => Class::Aside,
            }
        }
    }

    #[test]
    fn agrees_with_the_rule_on_random_sequences() {
        let cases = std::env::var("EXEDRA_CASES").map_or(1_000, |n| n.parse().unwrap());
        for seed in 0..cases {
            let mut seed = Seed(seed);
            let mut order = Order::default();
            let mut unfinished: Vec<(Ticket, Class)> = Vec::new();
            let mut running = BTreeSet::new();
            for _ in 0..60 {
                if running.is_empty() || seed.below(2) == 0 {
                    let class = seed.class();
                    let (ticket, ready) = order.admit(class.clone());
                    assert_eq!(ready, !unfinished.iter().any(|(_, e)| conflict(e, &class)));
                    unfinished.push((ticket, class));
                    ready.then(|| running.insert(ticket));
                } else {
                    let nth = seed.below(running.len() as u64) as usize;
                    let done = *running.iter().nth(nth).unwrap();
                    running.remove(&done);
                    unfinished.retain(|(t, _)| *t != done);
                    let ready = order.finish(done);
                    assert!(ready.is_sorted());
                    running.extend(ready);
                    let free = |i: usize| !unfinished[..i].iter().any(|(_, e)| conflict(e, &unfinished[i].1));
                    let expected: BTreeSet<_> =
                        (0..unfinished.len()).filter(|i| free(*i)).map(|i| unfinished[i].0).collect();
                    assert_eq!(running, expected);
                }
                assert_eq!(order.unfinished(), unfinished.len());
            }
        }
    }
}
