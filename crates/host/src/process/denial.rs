//! Whether a failure looks like the doing of the sandbox.
//!
//! In flow the pieces of output of a confined process, in the order in which they came, and its exit code; out flows a
//! guess, by words that systems and sandboxes use. Pure. Nobody is told which file it was: the words are all there is.

/// In lower case. Clients of the protocol know these.
const WORDS: [&[u8]; 7] = [
    b"permission denied",
    b"operation not permitted",
    b"read-only file system",
    b"failed to write file",
    b"seccomp",
    b"landlock",
    b"sandbox",
];
/// One less than the longest has: what of a word may end a piece.
const OVERLAP: usize = 22;
/// After a system call that a filter ends a process for.
const BY_FILTER: i32 = 128 + libc::SIGSYS;

/// What was seen of one process.
#[derive(Clone, Debug, Default)]
pub struct Denial {
    /// The end of what came, in case a word goes on in the next piece.
    tail: Vec<u8>,
    said: bool,
}

impl Denial {
    /// One more piece, of whatever stream.
    pub fn output(&mut self, bytes: &[u8]) {
        if self.said {
            return;
        }
        let start = &bytes[..bytes.len().min(OVERLAP)];
        self.tail.extend_from_slice(start);
        self.said = says(&self.tail) || says(bytes);
        if bytes.len() > OVERLAP {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - OVERLAP..]);
        } else if self.tail.len() > OVERLAP {
            self.tail.drain(..self.tail.len() - OVERLAP);
        }
    }

    /// Whether an exit with `code` after all that looks like a refusal.
    pub fn explains(&self, code: i32) -> bool {
        code == BY_FILTER || (code != 0 && self.said)
    }
}

fn says(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(at, first)| {
        let begins = |word: &&[u8]| {
            word[0] == first.to_ascii_lowercase()
                && text.get(at..at + word.len()).is_some_and(|there| there.eq_ignore_ascii_case(word))
        };
        WORDS.iter().any(begins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[&str], code: i32) -> bool {
        let mut denial = Denial::default();
        pieces.iter().for_each(|piece| denial.output(piece.as_bytes()));
        denial.explains(code)
    }

    #[test]
    fn a_failure_that_says_so() {
        assert!(seen(&["touch: /etc/x: Read-only file system\n"], 1));
        assert!(seen(&["OPERATION NOT PERMITTED"], 2));
        assert!(seen(&[&"x".repeat(9999), "Permission den", "", "i", "ed", &"y".repeat(9999)], 126));
        assert!(!seen(&["Permission denied"], 0), "it has got over it");
        assert!(!seen(&["No such file or directory", "Permission den", "y"], 1));
        assert!(!seen(&[], 1));
        assert!(seen(&[], 159));
    }

    #[test]
    fn words_are_found_wherever_a_piece_ends() {
        assert_eq!(WORDS.iter().map(|word| word.len()).max(), Some(OVERLAP + 1));
        let text = "....Operation not permitted....";
        for end in 0..text.len() {
            for next in end..text.len() {
                assert!(seen(&[&text[..end], &text[end..next], &text[next..]], 1), "{end} {next}");
            }
        }
    }
}
