//! Waiting for files to appear.
//!
//! In flow paths, out flows one moment.

use exedra_proto::fs::WatchMissingParams;
use exedra_proto::method::FsWatchMissing;
use exedra_proto::path::AbsolutePath;
use tokio::sync::oneshot;

use super::Files;
use crate::error::Error;

/// A watch that the executor keeps.
#[derive(Debug)]
pub struct Missing(oneshot::Receiver<()>);

impl Missing {
    pub(super) async fn watch(
        files: &Files,
        missing: &[AbsolutePath],
        present: Option<&AbsolutePath>,
    ) -> Result<Option<Self>, Error> {
        let watch_id = files.routes.next_number();
        // The notification may overtake the answer.
        let changed = files.routes.watch(watch_id);
        let missing = missing.iter().map(|path| files.written(path)).collect();
        let present = present.map(|path| files.written(path));
        let params = WatchMissingParams { watch_id, missing, present, sandbox: None };
        let result = files.call::<FsWatchMissing>(&params).await?;
        Ok(result.watching.then_some(Self(changed)))
    }

    /// Waits for the change. False if a later watch took its place, or the connection ended.
    pub async fn changed(self) -> bool {
        self.0.await.is_ok()
    }
}
