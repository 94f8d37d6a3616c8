//! Requests to stop a turn.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::timeout;

use super::{MOMENT, PATIENCE, turn};
use crate::bus::LiveBus;
use crate::time::{Runtime, SystemRuntime};

/// The instance that is named hears which turn to stop, and no other one does.
pub async fn a_request_reaches_the_instance_that_it_names(bus: Arc<dyn LiveBus>) {
    let (here, there) = (SystemRuntime.new_id(), SystemRuntime.new_id());
    let turn = turn();
    let mut mine = bus.cancellations(&here);
    let mut theirs = bus.cancellations(&there);
    // It may take a moment until a request is heard: whoever asks repeats it.
    let heard = async {
        loop {
            assert!(bus.ask_to_cancel(&turn, &here).await.is_ok());
            if let Ok(heard) = timeout(MOMENT, mine.next()).await {
                return heard;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, heard).await.ok(), Some(Some(turn)));
    assert!(timeout(MOMENT, theirs.next()).await.is_err());
}

/// Nobody has to be there to be asked.
pub async fn asking_an_instance_that_is_gone_is_no_error(bus: Arc<dyn LiveBus>) {
    let gone = SystemRuntime.new_id();
    assert!(bus.ask_to_cancel(&turn(), &gone).await.is_ok());
    assert!(bus.check().await.is_ok());
}
