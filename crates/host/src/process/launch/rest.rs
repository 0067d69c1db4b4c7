//! Gives back to the system what a process that rests does not need.
//!
//! That is what the allocator keeps of what was freed, all of it and not only what lies at an end of its heaps; and the
//! mapped pages of our own code, most of which ran once, at the start or for a client who is gone. A page of code is
//! mapped again from the kernel's cache when it runs, together with its neighbours: some hundred microseconds in all,
//! once. So it is for whoever has nothing to do. In flows nothing, out flows nothing.

use std::ops::Range;

/// What is allocated from this size on is mapped by itself, and goes back when it is freed, in bytes: more than a block of
/// a file takes in a message, which is had again at once.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 2 << 20;
/// What may lie free at the end of a heap, in bytes. More goes back when it is freed.
#[cfg(target_env = "gnu")]
const FREE: libc::c_int = 4 << 20;

/// Keeps the allocator to fixed limits. By itself it raises them with what it sees: after a message of 24 MiB it would
/// keep as much for good, while clients are there.
pub fn keep_little() {
    // SAFETY: it takes no pointer, and changes what later calls of the allocator do.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE);
    }
}

/// Gives it back. Costs a millisecond or a few, after much was freed.
pub fn give_back() {
    // SAFETY: it takes no pointer, and frees what nobody holds.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let here = (give_back as fn()) as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    if let Some(code) = code(&maps, here) {
        let start = std::ptr::with_exposed_provenance_mut(code.start);
        // SAFETY: the range is one mapping of a file that can be run and not written, so its pages are the file's, and
        // whoever touches one that was given back finds the same in it. Advice that is refused changes nothing.
        unsafe { libc::madvise(start, code.len(), libc::MADV_DONTNEED) };
    }
}

/// From now on all threads share one heap, and none has one of its own. For a server with few threads, to which thousands
/// come at once: what lasts of their coming lies in fewer pages then. Before any other thread is there.
pub fn share_heap() {
    // SAFETY: it takes no pointer, and is one number of the allocator's.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The mapping around `here`, if it is code of a file that nobody can have written to.
fn code(maps: &str, here: usize) -> Option<Range<usize>> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (rights, inode) = (fields.next()?, fields.nth(2)?);
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = address(start)?..address(end)?;
        (rights == "r-xp" && inode != "0" && range.contains(&here)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn only_code_of_a_file_is_found() {
        let maps = "1000-2000 r--p 00000000 fd:00 7 /bin/x\n2000-5000 r-xp 00001000 fd:00 7 /bin/x\n\
            5000-6000 rw-p 00004000 fd:00 7 /bin/x\n7000-8000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(code(maps, 0x2000), Some(0x2000..0x5000));
        assert_eq!(code(maps, 0x4fff), Some(0x2000..0x5000));
        for other in [0x1fff, 0x5000, 0x7000, 0x9000] {
            assert_eq!(code(maps, other), None);
        }
        assert_eq!(code("", 1), None);
    }

    /// Each, and not only the first, from which the allocator would learn. Part of the test below, which would disturb it.
    fn large_ones_go_back_when_they_are_freed() {
        keep_little();
        for size in [24 << 20, 16 << 20, 12 << 20] {
            let before = resident();
            drop(std::hint::black_box(vec![1_u8; size]));
            let after = resident();
            assert!(after < before + 8 * 1024, "{before} before and {after} after {size} bytes");
        }
    }

    #[test]
    fn what_was_freed_in_the_middle_goes_back_and_the_program_goes_on() {
        const EACH: usize = 8 * 1024;
        large_ones_go_back_when_they_are_freed();
        let before = resident();
        let mut all: Vec<Vec<u8>> = (0..8_192).map(|_| vec![1; EACH]).collect();
        let last = all.pop();
        drop(all);
        let pinned = resident();
        give_back();
        let after = resident();
        // In KB; 64 MB were had, and other tests may have some.
        assert!(after < before + 16 * 1024, "{before} before, {pinned} pinned, {after} after");
        assert_eq!(last.map(|last| last.len()), Some(EACH));
        give_back();
    }
}
