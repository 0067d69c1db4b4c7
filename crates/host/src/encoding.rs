//! Where large data is encoded: not on a worker, whose other tasks would wait for it.
//!
//! In flow how much it is and the work, out flows what the work gives. Knows no encoding.

/// Data that is encoded where it stands, in bytes: a fraction of a millisecond. More goes to the blocking pool.
const INLINE: usize = 256 * 1024;

/// Does `work` on `bytes` bytes. It may be done twice, if the pool gives it up.
pub async fn run<T: Send + 'static>(bytes: usize, work: impl Fn() -> T + Clone + Send + 'static) -> T {
    if bytes <= INLINE {
        return work();
    }
    match tokio::task::spawn_blocking(work.clone()).await {
        Ok(done) => done,
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn large_data_is_not_encoded_on_the_worker() {
        let here = thread::current().id();
        assert_eq!(run(INLINE, || thread::current().id()).await, here);
        assert_ne!(run(INLINE + 1, || thread::current().id()).await, here);
    }
}
