//! One connection on which an instance hears all channels that somebody here listens to. It comes
//! back by itself, and wakes everybody then: what was told meanwhile is in the streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{CONNECT, RESPONSE};

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_millis(500);

/// Messages that were heard and not taken; further ones are lost.
const MAX_MESSAGES: usize = 1024;

/// Hears channels.
#[derive(Debug)]
pub(super) struct Listener {
    channels: Arc<Channels>,
    _stop_on_drop: DropGuard,
}

#[derive(Debug, Default)]
struct Channels {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<String, Wanted>,
    /// Channels that came or went since the connection was told.
    changed: Vec<String>,
}

#[derive(Debug)]
struct Wanted {
    listeners: usize,
    heard: watch::Sender<()>,
    messages: Option<mpsc::Sender<String>>,
}

impl Channels {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self) {
        for wanted in self.state().wanted.values() {
            wanted.heard.send_replace(());
        }
    }

    fn wake(&self, channel: &str) {
        if let Some(wanted) = self.state().wanted.get(channel) {
            wanted.heard.send_replace(());
        }
    }
}

/// Somebody listens to a channel as long as this is kept.
#[derive(Debug)]
pub(super) struct Subscription {
    channels: Arc<Channels>,
    channel: String,
    heard: watch::Receiver<()>,
}

impl Subscription {
    /// Waits until something was heard, or may have been missed.
    pub(super) async fn notified(&mut self) {
        // Its sender lives as long as this.
        let _ = self.heard.changed().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.channels.state();
        if let Some(wanted) = state.wanted.get_mut(&self.channel) {
            wanted.listeners -= 1;
            if wanted.listeners == 0 {
                state.wanted.remove(&self.channel);
                let channel = std::mem::take(&mut self.channel);
                state.changed.push(channel);
                self.channels.changed.notify_one();
            }
        }
    }
}

impl Listener {
    /// Connects as soon as there is something to hear.
    pub(super) fn start(client: Client) -> Self {
        let channels = Arc::new(Channels::default());
        let stop = CancellationToken::new();
        let hearing = hear(client, Arc::clone(&channels));
        tokio::spawn(stop.clone().run_until_cancelled_owned(hearing));
        Self {
            channels,
            _stop_on_drop: stop.drop_guard(),
        }
    }

    /// Wakes whoever has this when something is said on the channel.
    pub(super) fn subscribe(&self, channel: String) -> Subscription {
        self.want(channel, None)
    }

    /// What is said on the channel.
    pub(super) fn receive(&self, channel: String) -> (Subscription, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(MAX_MESSAGES);
        (self.want(channel, Some(sender)), receiver)
    }

    fn want(&self, channel: String, messages: Option<mpsc::Sender<String>>) -> Subscription {
        let mut state = self.channels.state();
        let wanted = state.wanted.entry(channel.clone()).or_insert(Wanted {
            listeners: 0,
            heard: watch::Sender::default(),
            messages,
        });
        wanted.listeners += 1;
        let (is_new, heard) = (wanted.listeners == 1, wanted.heard.subscribe());
        if is_new {
            state.changed.push(channel.clone());
            self.channels.changed.notify_one();
        }
        Subscription {
            channels: Arc::clone(&self.channels),
            channel,
            heard,
        }
    }
}

/// Connects, hears, and connects again. Never ends.
async fn hear(client: Client, channels: Arc<Channels>) {
    loop {
        while channels.state().wanted.is_empty() {
            channels.changed.notified().await;
        }
        if let Ok(Ok(connection)) = timeout(CONNECT, client.get_async_pubsub()).await {
            let (sink, stream) = connection.split();
            if listen(sink, stream, &channels).await.is_none() {
                tracing::debug!("the connection on which Redis wakes followers broke off");
            }
        }
        sleep(PAUSE).await;
    }
}

/// Hears until the connection breaks off.
async fn listen(
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    channels: &Arc<Channels>,
) -> Option<()> {
    let all: Vec<String> = {
        let mut state = channels.state();
        state.changed.clear();
        state.wanted.keys().cloned().collect()
    };
    for some in all.chunks(MAX_MESSAGES) {
        timeout(RESPONSE, sink.subscribe(some)).await.ok()?.ok()?;
    }
    channels.wake_all();
    loop {
        tokio::select! {
            message = stream.next() => {
                let message = message?;
                let channel = message.get_channel_name();
                let state = channels.state();
                let Some(wanted) = state.wanted.get(channel) else {
                    continue;
                };
                wanted.heard.send_replace(());
                if let Some(messages) = &wanted.messages
                    && let Ok(payload) = message.get_payload::<String>()
                {
                    // Whoever asks for something asks again.
                    let _ = messages.try_send(payload);
                }
            }
            () = channels.changed.notified() => {
                let changed = std::mem::take(&mut channels.state().changed);
                for channel in changed {
                    let is_wanted = channels.state().wanted.contains_key(&channel);
                    let told = async {
                        match is_wanted {
                            true => sink.subscribe(&channel).await,
                            false => sink.unsubscribe(&channel).await,
                        }
                    };
                    timeout(RESPONSE, told).await.ok()?.ok()?;
                    channels.wake(&channel);
                }
            }
        }
    }
}
