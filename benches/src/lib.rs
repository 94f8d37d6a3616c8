//! What the benchmarks share: a provider that costs nothing, and a directory to write to.

use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{FinishReason, Result, async_trait};

/// Answers at once with a number of deltas of 8 bytes.
#[derive(Clone, Debug)]
pub struct Deltas(pub usize);

#[async_trait]
impl Provider for Deltas {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("deltas", "deltas")
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("deltas")])
    }

    async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
        let deltas = stream::repeat_with(|| Delta::Text("learning".to_owned())).take(self.0);
        let end = stream::iter([Delta::Finished {
            reason: FinishReason::Stop,
        }]);
        Ok(deltas.chain(end).map(Ok).boxed())
    }
}

/// A new directory on the disk of the build, not in memory.
///
/// # Errors
/// The file system's.
pub fn disk() -> std::io::Result<TempDir> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::fs::create_dir_all(&target)?;
    tempfile::tempdir_in(target)
}
