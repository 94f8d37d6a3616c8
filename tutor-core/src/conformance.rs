//! The laws of the plug-in traits as library code, to be run by the tests of any implementation.
//!
//! A store is tested by three lines:
//!
//! ```
//! use tutor_core::store::MemoryStore;
//!
//! async fn make() -> (MemoryStore, ()) {
//!     (MemoryStore::new(), ())
//! }
//! tutor_core::store_laws!(session_laws, make);
//! tutor_core::record_laws!(record_laws, make);
//! # fn main() {}
//! ```
//!
//! `make` gives an empty store, and whatever must live as long as the store does, such as its
//! temporary directory. Each law becomes a `#[test]` of its name.
//!
//! A provider is tested by [`provider_laws!`](crate::provider_laws) in the same way, a bus between
//! instances by [`bus_laws!`](crate::bus_laws). [`Upstream`] is a
//! server to test those with that speak HTTP.
//!
//! Not covered by semantic versioning: a new version may know more laws.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::bus::LiveBus;
use crate::provider::Provider;
use crate::store::{RecordStore, SessionStore};

#[cfg(feature = "files-cloud")]
pub mod bucket;
pub mod bus;
pub mod faulty;
pub mod provider;
pub mod records;
pub mod sample;
pub mod store;
#[cfg(all(
    feature = "provider-openai",
    feature = "provider-anthropic",
    feature = "provider-responses",
    feature = "provider-gemini",
    feature = "provider-ollama"
))]
pub mod traffic;
pub mod upstream;

pub use faulty::FaultyStore;
pub use upstream::Upstream;

/// Runs a law on a runtime of its own, with two threads, so that what is concurrent is parallel.
#[doc(hidden)]
#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
pub fn run<F: Future<Output = ()>>(law: F) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(law);
}

/// Makes a module of tests, one for each law of [`SessionStore`](crate::SessionStore).
///
/// `store_laws!(name, make)`: the name of the module, and an `async fn` beside it that gives an
/// empty store and what must live as long as it.
#[macro_export]
macro_rules! store_laws {
    ($name:ident, $make:ident) => {
        $crate::store_laws! { @laws ($name, $make, store, $crate::store::SessionStore) }
    };
    (@$then:ident $head:tt) => {
        $crate::$then! { $head;
            sessions: [
                a_created_session_is_read_back_empty
                creating_a_session_twice_conflicts_and_changes_nothing
                sessions_are_listed_newest_first_and_of_equal_times_the_greater_id_first
                pages_of_sessions_meet_without_gap_or_repeat
                paging_goes_on_where_it_was_when_sessions_move_come_and_go
                a_cursor_that_no_list_returned_is_refused
                a_list_limit_out_of_range_is_refused
                an_update_changes_what_it_names_and_moves_the_session_up
                an_update_never_moves_the_time_back
                a_title_of_the_callers_own_is_never_replaced
                an_update_switches_the_head_to_a_message_of_the_session_only
                a_summary_is_read_back_as_it_was_stored
                an_update_of_an_absent_session_is_not_found
                a_deleted_session_leaves_nothing
                deleting_a_session_leaves_its_neighbors_alone
                deleting_an_absent_session_is_false
                a_deleted_session_can_be_created_anew_and_is_empty
            ]
            owners: [
                owners_do_not_see_each_others_data
                ids_cannot_forge_the_prefix_of_another_owner_or_session
                owners_can_use_the_same_ids_and_keys
            ]
            begin: [
                begin_stores_session_messages_turn_and_head
                begin_on_an_existing_session_moves_head_count_time_and_preferences
                begin_without_messages_makes_the_answered_message_the_head
                begin_takes_imported_messages_in_order
                a_repeated_request_finds_its_turn_running_or_ended_and_writes_nothing
                a_key_of_another_request_conflicts_and_writes_nothing
                a_new_session_that_exists_conflicts_and_writes_nothing
                a_session_that_is_missing_is_not_found_and_nothing_is_written
                a_session_with_a_running_turn_conflicts_and_names_it
                a_stale_head_conflicts_names_the_actual_one_and_writes_nothing
                a_message_id_that_is_taken_conflicts_and_writes_nothing
                a_parent_outside_the_session_is_refused_and_nothing_is_written
                an_answered_message_that_is_no_learners_is_refused_and_nothing_is_written
                a_turn_id_that_is_taken_conflicts_and_writes_nothing
                the_checks_of_begin_are_made_in_order
                a_turn_that_contradicts_itself_is_refused
                of_concurrent_begins_with_one_key_exactly_one_is_new
                of_concurrent_begins_in_one_session_exactly_one_is_new
                a_dropped_begin_is_done_or_not_done
            ]
            finish: [
                finish_stores_the_reply_as_head_and_frees_the_session
                finish_without_a_reply_keeps_the_head_and_frees_the_session
                every_end_is_kept_with_the_turn
                a_turn_ends_once
                of_concurrent_ends_exactly_one_is_stored
                finish_of_an_absent_turn_is_not_found
                finish_with_another_lease_conflicts_and_writes_nothing
                an_end_that_does_not_fit_its_turn_is_refused_and_nothing_is_written
                a_checkpoint_renews_the_lease_and_keeps_the_partial_reply_out_of_the_session
                a_checkpoint_without_a_reply_renews_the_lease_only
                a_checkpoint_of_an_absent_or_ended_turn_is_refused
                running_turns_are_those_of_all_owners_with_their_checkpoints
                whoever_tries_again_after_a_failed_write_gets_there
            ]
            messages: [
                a_message_is_read_back_as_it_was_stored
                messages_of_any_size_are_read_back_as_they_were_stored
                a_line_is_read_from_both_ends_without_gap_or_repeat
                the_newest_messages_come_oldest_first_with_a_cursor_to_older_ones
                an_empty_session_has_an_empty_page
                a_branch_is_the_line_from_its_leaf_to_the_first_message
                all_branches_are_read_in_the_order_of_storing
                paging_back_follows_the_branch_on_which_it_began
                a_message_after_which_the_branch_does_not_go_on_is_refused
                a_message_outside_the_session_is_refused
                messages_of_an_absent_session_are_not_found
                a_page_limit_out_of_range_is_refused
            ]
            walking: [
                owners_are_listed_in_the_order_of_their_bytes_without_gap_or_repeat
                turns_of_a_session_are_listed_in_the_order_of_their_ids
                a_store_finds_nothing_wrong_with_itself
            ]
            deletion: [
                a_deleted_leaf_leaves_the_line_before_it
                a_message_that_others_follow_is_kept_unless_its_branch_is_cut
                what_is_deleted_takes_its_turns_and_their_keys_along
                no_message_is_deleted_while_a_turn_runs
                a_message_that_is_not_there_is_not_found
                whatever_is_deleted_the_rest_reads_on_and_grows_on
            ]
            importing: [
                session_ids_are_listed_in_the_order_of_their_bytes_without_gap_or_repeat
                a_whole_session_is_read_as_it_was_at_one_moment
                an_imported_session_is_read_back_exactly_as_it_was
                an_imported_session_goes_on_like_any_other
                an_existing_session_is_kept_or_replaced_with_all_that_is_in_it
                a_session_with_a_running_turn_is_not_replaced
                a_turn_or_a_key_of_another_session_conflicts_and_nothing_is_written
                a_session_that_contradicts_itself_is_refused_and_nothing_is_written
            ]
            close: [
                a_closed_store_is_unavailable
                closing_twice_is_fine
            ]
        }
    };
}

/// Makes a module of tests, one for each law of [`RecordStore`](crate::RecordStore).
///
/// `record_laws!(name, make)`: as in [`store_laws!`](crate::store_laws).
#[macro_export]
macro_rules! record_laws {
    ($name:ident, $make:ident) => {
        $crate::record_laws! { @laws ($name, $make, records, $crate::store::RecordStore) }
    };
    (@$then:ident $head:tt) => {
        $crate::$then! { $head;
            writing: [
                a_record_is_read_back_until_it_is_deleted
                versions_grow_with_every_write_and_are_not_reused_after_a_deletion
                an_expectation_that_is_not_met_conflicts_and_nothing_is_written
                the_writes_of_a_commit_are_made_in_order
                values_of_any_size_and_content_are_kept
                a_key_that_is_too_long_is_refused
                of_concurrent_writers_each_version_goes_to_one
            ]
            scanning: [
                a_scan_is_in_the_order_of_the_keys_bytes
                a_scan_goes_on_behind_a_key_and_stays_in_its_prefix
                kinds_do_not_mix
                kinds_are_listed_in_the_order_of_their_bytes
            ]
        }
    };
}

/// Makes a module of tests, one for each law of [`Provider`](crate::Provider).
///
/// `provider_laws!(name, make)`: the name of the module, and an `async fn` beside it that gives a
/// provider and what must live as long as it.
#[macro_export]
macro_rules! provider_laws {
    ($name:ident, $make:ident) => {
        $crate::provider_laws! { @laws ($name, $make, provider, $crate::Provider) }
    };
    (@$then:ident $head:tt) => {
        $crate::$then! { $head;
            facts: [
                info_is_stable_and_usable
                models_have_distinct_names
            ]
            streams: [
                a_stream_ends_with_exactly_one_terminal
                an_ended_stream_stays_ended
                a_stream_outlives_its_provider
                a_stream_runs_on_another_task
                completions_at_the_same_time_are_independent
                what_was_dropped_leaves_the_provider_usable
                tool_calls_have_distinct_ids
                conversations_of_any_shape_are_answered
                errors_do_not_repeat_the_prompt
            ]
        }
    };
}

/// Makes a module of tests, one for each law of [`LiveBus`](crate::LiveBus), as
/// [`store_laws!`](crate::store_laws) does for stores. The bus may be one that others use.
#[macro_export]
macro_rules! bus_laws {
    ($name:ident, $make:ident) => {
        $crate::bus_laws! { @laws ($name, $make, bus, $crate::LiveBus) }
    };
    (@$then:ident $head:tt) => {
        $crate::$then! { $head;
            events: [
                what_was_told_is_heard_behind_any_number
                followers_hear_what_comes
                what_is_told_again_is_there_once
                a_gap_is_not_taken
                a_place_beyond_the_end_gives_the_last_event
                turns_are_told_together
                owners_do_not_hear_each_other
                what_was_told_expires
            ]
            requests: [
                a_request_reaches_the_instance_that_it_names
                asking_an_instance_that_is_gone_is_no_error
            ]
            running: [
                one_turn_too_many_does_not_enter
                a_turn_that_leaves_or_ends_makes_room
                a_turn_counts_no_longer_than_it_said
            ]
            forgetting: [
                an_owners_turns_are_forgotten
                a_sessions_turns_are_forgotten
            ]
        }
    };
}

/// Makes the tests of [`store_laws!`](crate::store_laws), [`record_laws!`](crate::record_laws),
/// [`provider_laws!`](crate::provider_laws) and [`bus_laws!`](crate::bus_laws).
#[doc(hidden)]
#[macro_export]
macro_rules! laws {
    (($name:ident, $make:ident, $laws:ident, $interface:path); $($subject:ident: [$($law:ident)+])+) => {
        mod $name {
            $($(
                #[test]
                fn $law() {
                    $crate::conformance::run(async {
                        let (plugin, _guard) = super::$make().await;
                        let plugin: ::std::sync::Arc<dyn $interface> = ::std::sync::Arc::new(plugin);
                        $crate::conformance::$laws::$subject::$law(plugin).await;
                    });
                }
            )+)+
        }
    };
}

/// Makes the tables of [`STORE_LAWS`], [`RECORD_LAWS`], [`PROVIDER_LAWS`] and [`BUS_LAWS`].
#[doc(hidden)]
#[macro_export]
macro_rules! law_table {
    (($laws:ident); $($subject:ident: [$($law:ident)+])+) => {
        &[$($($crate::conformance::Law {
            name: stringify!($law),
            keep: |plugin| Box::pin($crate::conformance::$laws::$subject::$law(plugin)),
        },)+)+]
    };
}

/// A law as a value: for the tests of those who cannot use the macros.
pub struct Law<T: ?Sized + 'static> {
    /// What it says.
    pub name: &'static str,
    keep: fn(Arc<T>) -> BoxFuture<'static, ()>,
}

/// The laws of [`SessionStore`](crate::SessionStore).
pub const STORE_LAWS: &[Law<dyn SessionStore>] = crate::store_laws! { @law_table (store) };

/// The laws of [`RecordStore`](crate::RecordStore).
pub const RECORD_LAWS: &[Law<dyn RecordStore>] = crate::record_laws! { @law_table (records) };

/// The laws of [`Provider`](crate::Provider).
pub const PROVIDER_LAWS: &[Law<dyn Provider>] = crate::provider_laws! { @law_table (provider) };

/// The laws of [`LiveBus`](crate::LiveBus).
pub const BUS_LAWS: &[Law<dyn LiveBus>] = crate::bus_laws! { @law_table (bus) };

impl<T: ?Sized> Law<T> {
    /// Runs it on a plug-in that nobody has used yet.
    ///
    /// # Errors
    /// How it is broken, in the words of the assertion that failed; also if that is not known after
    /// `patience`.
    pub async fn check(&self, plugin: Arc<T>, patience: Duration) -> Result<(), String> {
        let kept = AssertUnwindSafe((self.keep)(plugin)).catch_unwind();
        match tokio::time::timeout(patience, kept).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned())),
            Err(_) => Err(format!("nothing came of it within {patience:?}")),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Law<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::store::MemoryStore;

    /// The public functions of a file whose argument is a plug-in.
    fn laws(text: &str) -> impl Iterator<Item = &str> {
        text.split("\npub async fn ")
            .skip(1)
            .filter_map(|function| {
                let (name, rest) = function.split_once('(')?;
                let (parameters, _) = rest.split_once(')')?;
                parameters.contains(": Arc<dyn ").then_some(name)
            })
    }

    #[test]
    fn every_law_is_run_by_its_macro() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let lists = fs::read_to_string(source.join("conformance.rs")).unwrap();
        let listed: Vec<&str> = lists.lines().map(str::trim).collect();
        let mut found = 0;
        for folder in ["store", "records", "provider", "bus"] {
            for entry in fs::read_dir(source.join("conformance").join(folder)).unwrap() {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap();
                for law in laws(&text) {
                    assert!(listed.contains(&law), "{law} is in no list");
                    found += 1;
                }
            }
        }
        assert!(found > 50, "only {found} laws were found");
        let tables = STORE_LAWS.len() + RECORD_LAWS.len() + PROVIDER_LAWS.len() + BUS_LAWS.len();
        assert_eq!(found, tables);
    }

    #[tokio::test]
    async fn a_broken_law_says_how_it_is_broken() {
        let law = STORE_LAWS
            .iter()
            .find(|law| law.name == "closing_twice_is_fine");
        let law = law.unwrap();
        let patience = Duration::from_secs(60);
        let kept = law.check(Arc::new(MemoryStore::new()), patience).await;
        assert_eq!(kept, Ok(()));
        let law = &STORE_LAWS[0];
        let closed = MemoryStore::new();
        closed.close().await.unwrap();
        let broken = law.check(Arc::new(closed), patience).await.unwrap_err();
        assert!(broken.contains("closed"), "{broken}");
    }
}
