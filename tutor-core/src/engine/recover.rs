//! Turns that nobody runs any more: a crash, or a store that failed at the wrong moment, left
//! them running.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{RunningTurn, TurnEnd};
use crate::turn::{TurnKey, TurnStatus};
use crate::usage::ledger::Spent;

/// Turns that are ended at a time, so that a store can write them together.
const CONCURRENCY: usize = 64;

impl Engine {
    /// Ends all turns that nobody runs, keeping what had been saved.
    pub(crate) async fn recover(&self) -> Result<()> {
        let running = self.store.running_turns().await?;
        let recovered: Vec<bool> = stream::iter(running)
            .map(async |turn| {
                let id = turn.turn.id.clone();
                match self.interrupt(turn).await {
                    // One turn that is damaged must not keep all others from being served.
                    Err(error) if error.kind() != ErrorKind::StoreUnavailable => {
                        tracing::error!(turn = %id, code = error.code(), "a turn that was left running could not be ended");
                        Ok(false)
                    }
                    result => result,
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let recovered = recovered.into_iter().filter(|done| *done).count();
        if recovered > 0 {
            self.recovered.fetch_add(recovered, Ordering::Relaxed);
            tracing::info!(recovered, "turns that nobody ran any more were ended");
        }
        Ok(())
    }

    /// Goes on to end turns whose lease runs out, in a store that other instances use too: those
    /// of an instance that is gone. Ends with the engine.
    pub(crate) fn watch_leases(self: &Arc<Self>) {
        if self.store.info().exclusive {
            return;
        }
        // Two instances that look at the same time: the second one finds the turn ended.
        let period = self.limits.lease / 2;
        let (engine, closing) = (Arc::downgrade(self), self.closing.clone());
        self.tasks
            .spawn(closing.run_until_cancelled_owned(async move {
                loop {
                    tokio::time::sleep(period).await;
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    if let Err(error) = engine.recover().await {
                        tracing::warn!(
                            code = error.code(),
                            "turns that nobody runs were not looked for"
                        );
                    }
                }
            }));
    }

    /// Ends one turn if nobody runs it, and waits for one that was cancelled. False if somebody
    /// runs it, or it had ended already.
    pub(crate) async fn reclaim(&self, key: &TurnKey) -> Result<bool> {
        if self.hub.is_live(key) {
            return match self.hub.find(key) {
                // Who goes on right after cancelling is not told of a conflict.
                Some(live) if live.cancel.is_cancelled() => {
                    live.ended().await;
                    Ok(true)
                }
                _ => Ok(false),
            };
        }
        let unstored = self.hub.find(key).and_then(|live| live.unstored_end());
        let reclaimed = match unstored {
            Some(end) => self.end(key, end).await?,
            None => {
                let running = self.store.running_turns().await?;
                match running
                    .into_iter()
                    .find(|running| running.turn.key() == *key)
                {
                    Some(turn) => self.interrupt(turn).await?,
                    None => false,
                }
            }
        };
        if reclaimed {
            self.hub.forget(key);
        }
        Ok(reclaimed)
    }

    async fn interrupt(&self, RunningTurn { turn, partial }: RunningTurn) -> Result<bool> {
        let key = turn.key();
        let now = self.runtime.now();
        let ours = self.store.info().exclusive || turn.instance == self.instance;
        if self.hub.is_live(&key) || (!ours && turn.lease_until > now) {
            return Ok(false);
        }
        let error = Error::new(
            ErrorKind::Interrupted,
            "the server stopped while this reply was written: ask again",
        )
        .retryable(None);
        let end = TurnEnd {
            status: TurnStatus::Interrupted,
            reply: partial,
            error: Some(error.info()),
            finish_reason: None,
            usage: turn.usage,
            trace: turn.trace.clone(),
            ended_at: now,
            expected_lease: Some(turn.lease_until),
        };
        let ended = self.end(&key, end).await?;
        if ended {
            let spent = Spent {
                status: TurnStatus::Interrupted,
                usage: turn.usage.unwrap_or_default(),
                first_token: None,
            };
            // Others who paid find it in the store, when their reservations are over.
            self.ledger.settle(&turn, &[], spent);
            self.leave(key);
        }
        Ok(ended)
    }

    /// Ends a turn late. False if it has ended, was renewed, or went with its session.
    async fn end(&self, key: &TurnKey, end: TurnEnd) -> Result<bool> {
        match self.store.finish_turn(key, end).await {
            Ok(turn) => {
                tracing::warn!(turn = %key.id, status = turn.status.as_str(), "a turn that was left running was ended");
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
