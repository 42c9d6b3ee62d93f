//! The claims that a store keeps, whatever its backend.
//!
//! A backend says how its store is opened, and runs the suite by `conformance::suite!(ItsBackend)` in a test
//! binary that has the modules `conformance` and `support`. Each claim is a function over a [`Bench`]; the
//! list of claims is in the macro alone, and the compiler reports a claim that is missing there.

#![allow(unreachable_pub, reason = "as in the files of support")]

pub mod admission;
pub mod attempts;
pub mod batches;
pub mod faults;
pub mod feed;
pub mod histories;
pub mod huge;
mod model;
pub mod paths;
pub mod queries;
pub mod repeats;
pub mod runs;
pub mod turns;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use mediamill_actors::{
    event::{Event, EventKind},
    id::{Owner, UploadId},
    store::{
        AfterAttempt, Begun, Clock, CommandError, Commands, FaultPoint, Faults, Notice, Notices, Options,
        Scope, Store,
    },
    upload::{Description, Failure, Stage, Thumbnail, Upload},
};

use crate::support::bare_store::{self, Bare};

/// A place that keeps a store, while it is open and after it is closed.
pub trait Backend {
    /// A place with nothing in it.
    fn empty() -> Self;

    /// Opens the store, or makes a new one. No other store of this place is open.
    async fn open(&self, options: Options) -> Store;
}

/// Expands to a test of each claim for a backend.
macro_rules! suite {
    ($backend:ident) => {
        $crate::conformance::suite! {
            $backend
            admission {
                a_batch_is_admitted_in_order
                a_batch_without_uploads_has_ended
                the_id_of_anothers_batch_is_refused
                a_full_queue_refuses_and_takes_nothing
                each_owner_has_a_share_of_a_full_queue
                quotas_hold_for_each_owner
                batches_without_uploads_do_not_pile_up
            }
            paths {
                files_that_changed_places_take_nothing_while_the_queue_is_full
                files_that_change_places_keep_their_uploads
                paths_are_written_without_a_batch
                a_displaced_upload_goes_on_at_another_path_or_is_deleted
                a_completed_upload_is_replaced_once_the_new_one_completes
                an_unfinished_upload_is_replaced_at_once
                a_moved_upload_is_not_replaced
                an_upload_of_known_bytes_begins_with_their_description
            }
            huge {
                a_huge_batch_is_begun_when_all_of_it_is_written
                a_huge_batch_whose_writing_is_cut_short_has_what_was_written
                a_huge_batch_that_is_cancelled_while_it_is_written_is_cancelled_whole
                a_retry_of_a_huge_batch_is_one_round
            }
            attempts {
                an_attempt_records_what_it_gives_and_completes
                an_upload_that_fails_twice_is_failed_and_its_neighbour_completes
                an_attempt_that_is_handed_back_does_not_count
                an_upload_under_which_the_provider_goes_away_twice_has_a_failure
                a_description_of_an_earlier_attempt_is_resumed
                steps_out_of_order_are_refused
                a_refusal_costs_the_commands_beside_it_nothing
                a_panicked_attempt_failed_in_its_stage
            }
            batches {
                cancelling_ends_all_that_is_unfinished
                a_paused_batch_begins_nothing_until_it_is_resumed
                a_retry_gives_failed_uploads_a_round
                a_deleted_upload_leaves_nothing_behind
                a_batch_whose_uploads_are_all_deleted_has_ended
                a_deleted_batch_leaves_nothing_behind
                a_huge_batch_is_deleted_whole
                batches_of_others_are_not_found
            }
            repeats {
                a_repeated_command_changes_nothing
                a_repeated_failure_gives_the_same_next_attempt
                a_huge_admission_that_is_repeated_is_written_once
                the_id_of_another_upload_is_refused
                a_repeated_take_gives_the_same_attempts
                commands_take_effect_in_the_order_of_the_calls
            }
            turns {
                owners_take_turns_and_batches_go_first_in_first_out
                an_upload_that_waits_again_goes_before_later_ones
            }
            runs {
                nothing_is_begun_before_a_start_or_after_an_end
                two_runs_share_the_queue
                a_recovered_run_is_refused_and_others_are_untouched
                tokens_of_earlier_runs_are_stale
                interrupted_uploads_run_alone_and_fail_at_the_limit
                a_run_is_alone_by_itself
                uploads_outside_the_scope_rest
                a_batch_stays_cancelled_over_a_restart
                the_state_of_the_provider_belongs_to_the_run
                the_end_of_a_run_hands_its_attempts_back
            }
            feed {
                numbers_have_no_gaps_and_each_round_ends_once
                the_feed_is_the_whole_log_in_pieces_of_any_size
                the_log_is_read_in_pages
                uploads_in_flight_come_with_the_last_piece
                a_snapshot_is_of_one_moment
                notices_go_to_the_run_of_the_attempt_once_they_are_durable
                attempts_that_end_themselves_give_no_notice
                old_events_are_forgotten_when_there_is_time
            }
            queries {
                an_empty_store_has_nothing
                owners_see_their_own
                batches_and_uploads_come_in_pages
                uploads_are_found_by_path_and_by_content
                the_nearest_vectors_are_found
                a_dump_restores_the_store
            }
            faults {
                a_failure_before_the_commit_keeps_nothing
                a_failure_after_the_commit_keeps_all
                a_lost_answer_is_given_again_after_a_restart
                a_lost_attempt_ends_as_interrupted
                a_read_that_fails_leaves_the_store_sound
            }
            histories {
                a_random_history_is_as_the_model_says
            }
        }
    };
    ($backend:ident $($room:ident { $($claim:ident)+ })+) => {
        $(mod $room {
            $(#[actix_rt::test]
            async fn $claim() {
                let bench = $crate::conformance::Bench::<super::$backend>::new();
                $crate::conformance::$room::$claim(&bench).await;
            })+
        })+
    };
}
pub(crate) use suite;

/// A place for a store, with a paused clock and faults on demand.
pub struct Bench<B> {
    place: B,
    clock: Clock,
    /// The place that fails, and how often it is passed before.
    fault: Arc<Mutex<Option<(FaultPoint, usize)>>>,
}

/// The sentence of an injected fault.
pub const INJECTED: &str = "the disk is on fire";

impl<B: Backend> Bench<B> {
    pub fn new() -> Self {
        tokio::time::pause();
        let clock = Clock::Tokio { start: tokio::time::Instant::now() };
        Self { place: B::empty(), clock, fault: Arc::default() }
    }

    /// Another place, with the same clock.
    pub fn another(&self) -> Self {
        Self { place: B::empty(), clock: self.clock, fault: Arc::default() }
    }

    /// The store without a run.
    pub async fn open_store(&self, keep_events: u64) -> Store {
        let fault = Arc::clone(&self.fault);
        let inject = move |at| {
            let mut fault = fault.lock().expect("sound");
            match fault.as_mut() {
                Some((place, times)) if *place == at && *times > 0 => *times -= 1,
                Some((place, _)) if *place == at => {
                    *fault = None;
                    return Some(INJECTED.to_owned());
                }
                Some(_) | None => {}
            }
            None
        };
        let faults = Faults::new(inject);
        self.place
            .open(Options { cache_mb: 8, keep_events, count_usage: true, clock: self.clock, faults })
            .await
    }

    /// The store with a run of its own.
    pub async fn open(&self) -> Bare {
        self.open_within(Scope::All, 3).await
    }

    pub async fn open_within(&self, scope: Scope, max_interruptions: u32) -> Bare {
        Bare::start(self.open_store(100_000).await, scope, max_interruptions).await
    }

    /// The next time, this place fails.
    pub fn fail_at(&self, at: FaultPoint) {
        self.fail_after(0, at);
    }

    /// This place fails after it has been passed some times.
    pub fn fail_after(&self, times: usize, at: FaultPoint) {
        *self.fault.lock().expect("sound") = Some((at, times));
    }
}

/// A second run on an open store.
pub async fn second_run(store: &Bare) -> Bare {
    Bare::start(store.store.clone(), Scope::All, 3).await
}

pub fn owner(name: &str) -> Owner {
    Owner::new(name).expect("valid")
}

/// Begins the next attempts.
pub async fn begin(store: &Bare, most: usize) -> Vec<Begun> {
    store.commands.begin_next(most).await.expect("begun")
}

/// Begins the next attempt.
pub async fn begin_one(store: &Bare) -> Begun {
    begin(store, 1).await.pop().expect("one waits")
}

pub fn ids(begun: &[Begun]) -> Vec<UploadId> {
    begun.iter().map(|it| it.token.upload).collect()
}

pub async fn upload(store: &Bare, owner: &Owner, id: UploadId) -> Upload {
    store.queries.upload(owner.clone(), id).await.expect("the upload")
}

/// Fails an attempt.
pub async fn fail(store: &Bare, begun: &Begun) -> AfterAttempt {
    store.commands.fail(begun.token.clone(), bare_store::failure(begun)).await.expect("written")
}

/// Fails an attempt and the one after it.
pub async fn fail_twice(store: &Bare, begun: &Begun) {
    let AfterAttempt::Retried(second) = fail(store, begun).await else {
        unreachable!("the first failure is followed by another attempt");
    };
    let after = fail(store, &second).await;
    assert!(matches!(after, AfterAttempt::Ended), "{after:?}");
}

/// A command, given a second later, changes nothing that is kept. Answers with its answer.
macro_rules! changes_nothing {
    ($store:expr, $command:expr) => {
        // A command is queued by its call, which has to come after the first look.
        $crate::conformance::leaves_unchanged($store, async { $command.await })
    };
}
pub(crate) use changes_nothing;

pub async fn leaves_unchanged<T>(store: &Bare, doing: impl Future<Output = T>) -> T {
    tokio::time::advance(Duration::from_secs(1)).await;
    let before = bare_store::dump(store).await;
    let answer = doing.await;
    let after = bare_store::dump(store).await;
    let lines: BTreeSet<_> = before.lines().collect();
    let new: Vec<_> = after.lines().filter(|line| !lines.contains(line)).collect();
    assert!(before == after, "this is new: {new:#?}");
    answer
}

/// The trees fit together.
pub async fn is_sound(store: &Bare) {
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
}

/// All events of an owner.
pub async fn log(store: &Bare, owner: &Owner) -> Vec<Event> {
    let page = store.queries.events_from(owner.clone(), 1, 100_000).await.expect("the log");
    page.changes.into_iter().map(|it| it.event).collect()
}

/// The kinds of an owner's events from a number on.
pub async fn kinds_from(store: &Bare, owner: &Owner, from: u64) -> Vec<EventKind> {
    log(store, owner).await.into_iter().filter(|it| it.seq >= from).map(|it| it.kind).collect()
}

/// The notices that were sent until now.
pub async fn sent(notices: &mut Notices) -> BTreeSet<String> {
    let mut sent = BTreeSet::new();
    while let Some(notice) = futures_util::FutureExt::now_or_never(notices.next()).flatten() {
        assert!(sent.insert(named(&notice)), "{notice:?} was sent twice");
    }
    sent
}

pub fn named(notice: &Notice) -> String {
    match notice {
        Notice::Revoked(token) => revoked(token),
        Notice::FilesToRemove(upload) => format!("files of {upload}"),
    }
}

pub fn revoked(token: &mediamill_actors::store::Token) -> String {
    format!("attempt {} of {}", token.attempt, token.upload)
}

/// The error of every command that an attempt can give, with its name; `None` where it was done.
pub async fn answers(
    commands: &Commands,
    begun: &Begun,
    description: Description,
) -> Vec<(&'static str, Option<CommandError>)> {
    let token = || begun.token.clone();
    let by = bare_store::identity();
    let away: Failure = bare_store::failure(begun);
    let media = commands.record_media(token(), Thumbnail::Made, Default::default());
    vec![
        ("record_stage", commands.record_stage(token(), Stage::Indexing).await.err()),
        ("record_media", media.await.err()),
        ("resume_embedding", commands.resume_embedding(token()).await.err()),
        ("record_description", commands.record_description(token(), description, Vec::new(), 5).await.err()),
        ("complete", commands.complete(token(), vec![1.0, 0.0, 0.0], by, None, 5).await.err()),
        ("fail", commands.fail(token(), bare_store::failure(begun)).await.err()),
        ("hand_back", commands.hand_back(token(), None).await.err()),
        ("hand_back away", commands.hand_back(token(), Some(away)).await.err()),
    ]
}

/// Every command of this attempt is refused, and none changes anything.
pub async fn is_refused(store: &Bare, commands: &Commands, begun: &Begun) {
    let answers = changes_nothing!(store, answers(commands, begun, bare_store::description(store))).await;
    for (name, error) in answers {
        assert_eq!(error, Some(CommandError::Stale), "{name}");
    }
}
