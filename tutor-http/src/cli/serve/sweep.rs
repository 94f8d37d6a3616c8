//! Removing what a crash left of uploads.

use std::time::Duration;

use tutor_core::file::FileStore;

/// How often bytes are looked for that no file has any more.
const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);

/// Looks at once, and every few hours. Never ends.
pub(super) async fn now_and_then(files: FileStore) {
    loop {
        match files.sweep().await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "remains of uploads were removed"),
            Err(error) => tracing::warn!(%error, "remains of uploads were not looked for"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}
