//! What a peer or a submitter can fill in a coordinator's memory, and where that ends: the one list of it.
//!
//! Each bound is per peer or per submitter where one of them could otherwise take everything, and what a peer filled goes
//! when it goes. Whoever adds a map that a message or a request can make longer adds a line here, and a test that fills it: the
//! last column names it: a file from the root of the workspace, and functions in it.
//!
//! | what is kept | for whom | at most | at the bound | forgotten | held by | tested by |
//! |---|---|---|---|---|---|---|
//! | blobs that it asked for | agent with a stream | 64 | the first asked for goes | with the stream | [`crate::fleet::tracker`] `ASKED_MAX` | `coordinator/src/fleet/tracker.rs` `what_an_agent_asks_for_is_remembered_up_to_a_bound_and_forgotten_with_it` |
//! | blobs that it says it holds | agent with a stream | [`lull_shared::limits::HOLDINGS_MAX`] | it broke the protocol | with the stream | [`crate::fleet::tracker`] | `coordinator/src/fleet/tracker.rs` `an_agent_that_claims_too_much_breaks_the_protocol` |
//! | blobs that all say they hold | network | 2,000,000 | further ones are not noted | with the streams | [`crate::fleet::tracker`] `HOLDINGS_OF_ALL_MAX` | `coordinator/src/fleet/tracker.rs` `what_all_agents_say_they_hold_is_bounded_and_whoever_goes_makes_room` |
//! | uploads that are counted | coordinator | 4,096 blobs | the longest unused goes | by that | [`crate::fleet::tracker`] `UPLOADED_MAX` | `coordinator/src/fleet/tracker.rs` `uploads_are_counted_and_what_is_remembered_of_them_is_bounded` |
//! | versions whose holders are followed | coordinator | 256 | the longest unused goes | by that | [`crate::fleet::tracker`] `VERSIONS_MAX` | `coordinator/src/fleet/tracker.rs` `of_many_versions_the_holders_of_the_last_are_followed` |
//! | deliveries of outputs that are counted | coordinator | 16,384 attempts | the oldest goes | by that | [`crate::fleet::blobs`] `COUNTED_MAX` | `coordinator/src/fleet/blobs.rs` `deliveries_are_counted_for_the_newest_attempts_only` |
//! | readers of its log | agent | 16 | a reader is told to come again | with the stream | [`crate::fleet::logs`] `READERS_PER_AGENT_MAX` | `coordinator/src/fleet/logs.rs` `who_reads_from_one_agent_is_bounded_and_a_reader_who_left_makes_room` |
//! | what it says of its policy | agent | 1, in all 100,000 | a new agent's is not noted | by the next | [`crate::fleet::policies`] `REPORTS_MAX` | `coordinator/src/fleet/policies.rs` `one_report_of_each_agent_is_remembered_and_not_of_endlessly_many` |
//! | frames read and not handled | stream | [`lull_shared::limits::FRAMES_WAITING_MAX`] | nothing more is read | with the stream | [`crate::fleet::network`] | `coordinator/src/fleet/network.rs` `one_agent_has_one_of_the_longest_messages_waiting_or_many_short_ones`, `nothing_more_is_read_while_frames_or_messages_wait_and_each_makes_room_when_it_was_handled` |
//! | orders written and not read | stream | a part of its queue | the stream is closed | with the stream | [`crate::dispatch::writer`] | `coordinator/src/dispatch/writer.rs` `what_waits_for_an_agent_that_reads_nothing_is_bounded` |
//! | attempts in one list | message | [`lull_shared::limits::ATTEMPTS_PER_AGENT_MAX`] | it broke the protocol | at once | [`crate::fleet::claims`], scheduler | `coordinator/src/fleet/claims.rs` `lists_and_words_beyond_all_reason_go_no_further`; `coordinator/scheduler/src/tests/fleet/hostile.rs` `lists_beyond_all_reason_end_the_stream` |
//! | attempts with it | agent | `attempts_per_agent_max` | it is given no more | as they end | scheduler `Limits` | `coordinator/scheduler/src/tests/jobs/admission.rs` `an_agent_has_no_more_attempts_than_the_bound_and_none_when_they_have_ended`; `coordinator/scheduler/src/tests/fleet/hostile.rs` `slots_beyond_all_reason_are_not_believed` |
//! | results and withdrawals that it has not read of | agent | [`lull_shared::limits::ATTEMPTS_PER_AGENT_MAX`] | the first goes | as it reads | scheduler, `fleet` | `coordinator/scheduler/src/tests/attempts/results.rs` `what_an_agent_has_not_read_of_is_bounded_and_forgotten_as_it_reads` |
//! | refusals | agent | `refusals_per_agent_max` | the one that ends soonest goes | as they end | scheduler `Limits` | `coordinator/scheduler/src/tests/attempts/results.rs` `refusals_of_an_agent_are_bounded_and_go_with_their_jobs_and_its_stream` |
//! | jobs whose terms it was told | stream | `terms_per_agent_max` | one without attempts goes | with the stream | scheduler `Limits` | `coordinator/scheduler/src/tests/jobs/admission.rs` `terms_that_a_busy_agent_was_told_beyond_the_bound_go_when_it_is_idle_and_all_with_its_stream` |
//! | programs with its identity | agent | 8 | the oldest goes | when trusted | scheduler, `twins` | `coordinator/scheduler/src/tests/fleet/twins.rs` `however_many_programs_come_few_are_remembered_and_none_when_it_is_trusted` |
//! | times that it kept work too long | agent | 3 | it gets no work | when trusted, or after 30 days | scheduler, `overtime` | `coordinator/scheduler/src/tests/attempts/overtime.rs` `whoever_does_so_three_times_gets_no_work_until_an_administrator_trusts_it` |
//! | cards, labels, words about itself | agent | [`lull_shared::limits::CARDS_MAX`], [`lull_shared::limits::LABELS_MAX`], [`lull_shared::limits::NAME_BYTES_MAX`] | cut | by the next greeting | scheduler, `connection` | `coordinator/scheduler/src/tests/fleet/hostile.rs` `what_an_agent_says_of_itself_is_cut_and_replaced_by_its_next_greeting` |
//! | snapshots that it keeps | agent | [`lull_shared::limits::SNAPSHOTS_PER_AGENT_MAX`] | it broke the protocol | with the task | scheduler, `keeping` | `coordinator/scheduler/src/tests/snapshots/keeping.rs` `an_agent_names_no_more_snapshots_than_it_may_have_and_those_of_no_task_are_not_remembered`, `what_is_known_of_an_agents_snapshots_goes_with_their_task` |
//! | numbers of jobs that it names and this store has not given | coordinator | 65,536 | the highest of whoever names the most goes | when the own numbers reach them | scheduler, `foreign` | `coordinator/scheduler/src/fleet/foreign.rs` `numbers_that_agents_name_are_remembered_up_to_a_bound_until_the_own_ones_reach_them`, `an_agent_that_names_endlessly_many_numbers_takes_no_other_agents_place` |
//! | logs of live attempts | coordinator | 64 MB | those of the oldest attempts of whoever has the most go | with the attempt | scheduler, `remains` | `coordinator/scheduler/src/attempts/remains.rs` `what_is_left_of_attempts_is_bounded_over_all_and_goes_with_each`, `an_agent_that_says_endlessly_much_takes_no_other_agents_place` |
//! | certificates of members | node | [`lull_shared::limits::CONNECTIONS_INCOMING_MAX`] | the longest unused goes | by that | mesh, `KnownMembers` | `shared/mesh/src/peers/gossip.rs` `of_many_members_those_used_last_are_known_and_a_revoked_one_is_forgotten` |
//! | peers that were members | node | [`lull_shared::limits::CONNECTIONS_INCOMING_MAX`] | the longest unused goes | by that, or when it is revoked | mesh, `Membership` | `shared/mesh/src/peers/members.rs` `peers_that_were_members_are_noted_up_to_a_bound` |
//! | addresses of members | node | [`lull_shared::limits::CONNECTIONS_INCOMING_MAX`] | the longest unused goes | by that | mesh, `Places` | `shared/mesh/src/peers/door.rs` `addresses_of_members_are_bounded` |
//! | addresses where it listens | connected peer | [`lull_shared::limits::PEER_ADDRESSES_MAX`] | cut | with the last connection | mesh, `Exchange` | `shared/mesh/src/peers/idle.rs` `odd_addresses_are_left_out_and_many_are_cut`; `shared/mesh/src/blobs/exchange.rs` `of_peers_out_of_reach_few_are_remembered_and_where_a_peer_listens_until_it_goes` |
//! | peers out of reach | node | 1,024 | all are tried again | by that | mesh, `Exchange` | `shared/mesh/src/blobs/exchange.rs` `of_peers_out_of_reach_few_are_remembered_and_where_a_peer_listens_until_it_goes` |
//! | pieces that were given away | node | 256 blobs | the longest unused goes | after 10 minutes | mesh, `Seeding` | `shared/mesh/src/blobs/seeding.rs` `what_is_remembered_is_bounded_and_a_set_of_another_size_harms_nothing` |
//! | peers found on the subnet | node | 256 | further ones are not noted | when they fall silent | mesh, `Discovery` | `shared/mesh/src/peers/discovery.rs` `a_subnet_full_of_noise_is_bounded_and_what_expires_is_forgotten` |
//! | addresses that asked to be enrolled | node | [`lull_shared::limits::ENROLMENT_ADDRESSES_MAX`] | further ones wait a minute | after a minute | mesh, `Door` | `shared/mesh/src/peers/enrolment.rs` `addresses_are_forgotten_so_that_strangers_cannot_fill_memory` |
//! | streams, pieces on their way | connection, peer | [`lull_shared::limits::STREAMS_PER_CONNECTION_MAX`], [`lull_shared::limits::BLOB_TRANSFERS_PER_PEER_MAX`] | reset, or `Busy` | as they end | mesh | `shared/mesh/src/tests/garbage.rs` `a_peer_cannot_hold_more_than_its_share_of_streams`; `shared/mesh/src/blobs/exchange.rs` `one_peer_has_its_share_of_the_places_and_others_theirs` |
//! | revocations | network | [`lull_shared::limits::REVOCATIONS_BYTES_MAX`] | a longer list is not believed | by the next edition | mesh, `Membership` | `shared/mesh/src/tests/admission.rs` `a_list_of_revocations_beyond_all_reason_is_not_believed_and_one_goes_with_the_next` |
//! | active jobs, and what each may say | network, submitter | [`lull_shared::limits::JOBS_ACTIVE_MAX`] and its share | refused, with what to wait for | as they end | scheduler `Limits` | `coordinator/scheduler/src/tests/jobs/admission.rs` `one_job_too_many_is_refused_until_another_ends`, `tasks_inputs_and_arguments_of_a_submitter_are_bounded_too` |
//! | callers that the store confirmed | coordinator | 1,024 | one goes | when a token is revoked, and with the term | [`crate::access`] `CALLERS_MAX` | `coordinator/src/access.rs` `callers_are_remembered_up_to_a_bound_while_their_tokens_are_valid` |
//! | sessions, refused sign-ins | token, coordinator | 32, 4,096; the audit has 20 lines a minute of refusals | the one unused for longest ends; refusals are counted | after an hour unused, half a day, and with the token or the term | HTTP, `Sessions` | `coordinator/src/http/door/sessions.rs` `a_token_has_so_many_sessions_and_the_one_unused_for_longest_makes_room`, `all_sessions_together_are_bounded`, `refusals_are_told_once_a_minute_for_each_address_with_their_number_and_few_for_all` |
//! | streams of the portal | token, coordinator | 16, 512 | told to come again | as they end | [`crate::portal`] | `coordinator/src/portal/live.rs` `one_token_has_its_share_of_the_streams_and_a_stream_that_ends_makes_room` |
//! | requests, headers, windows and resets of HTTP/2; handshakes | connection | 64, 16 KiB, 256 KiB, 32; 5 s | refused, or the connection is cut | as they end, and with the connection | HTTP, `serve` | `coordinator/src/http/sealed.rs` `a_connection_of_http_2_is_told_its_bounds_and_cut_when_it_floods`, `a_handshake_that_does_not_go_on_is_cut_and_a_crowd_of_them_keeps_nobody_out`; `coordinator/src/http/door/body.rs` `a_part_that_nobody_takes_is_noticed_and_an_answer_that_waits_for_news_is_not` |
//! | publications | coordinator, submitter | as the queue says | refused | some time after their end | [`crate::publishing`] | `coordinator/src/publishing/queue.rs` `nobody_fills_the_queue_and_what_is_taken_out_is_gone`; `coordinator/src/publishing/mod.rs` `what_has_ended_is_forgotten_after_a_while_and_never_is_too_much_remembered` |

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    /// What is kept, and the column that names its tests.
    fn rows() -> Vec<(&'static str, &'static str)> {
        let lines = include_str!("bounds.rs").lines().filter_map(|line| line.strip_prefix("//! |")?.strip_suffix('|'));
        let cells = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let rows = cells.skip(2).map(|cells| match cells[..] {
            [kept, _, _, _, _, _, tested_by] => (kept, tested_by),
            _ => panic!("a row of {} cells: {cells:?}", cells.len()),
        });
        rows.collect()
    }

    /// The tests that a cell names: each by its file and its function.
    fn named(cell: &str) -> Vec<(&str, &str)> {
        let (mut file, mut named) = (None, Vec::new());
        for word in cell.split('`').skip(1).step_by(2) {
            match file {
                _ if word.ends_with(".rs") => file = Some(word),
                Some(file) => named.push((file, word)),
                None => panic!("`{word}` without its file"),
            }
        }
        named
    }

    /// Whether the source has a test of this name.
    fn has_test(source: &str, name: &str) -> bool {
        let head = format!("fn {name}()");
        let at = source.lines().position(|line| line.trim_start().trim_start_matches("async ").starts_with(&head));
        let before = at.map(|at| source.lines().take(at).filter(|line| line.trim_start().starts_with("#[")).last());
        before.flatten().is_some_and(|attribute| attribute.contains("test"))
    }

    #[test]
    fn every_bound_has_a_test_that_there_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut sources = BTreeMap::new();
        let rows = rows();
        assert!(rows.len() >= 30, "the table is read: {rows:?}");
        for (kept, tested_by) in rows {
            let tests = named(tested_by);
            assert!(!tests.is_empty(), "nothing tests the bound of `{kept}`");
            for (file, name) in tests {
                let read = || std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                let source = sources.entry(file).or_insert_with(read);
                assert!(has_test(source, name), "`{kept}` names the test `{name}`, which {file} does not have");
            }
        }
    }

    #[test]
    fn what_a_column_names_is_looked_for_as_a_test() {
        let source = "    #[test]\n    fn a_bound_holds() {}\n    #[tokio::test]\n    async fn it_waits() {}\n\n    #[cfg(unix)]\n    fn helper() {}";
        let found = ["a_bound_holds", "it_waits", "helper", "a_bound"].map(|name| has_test(source, name));
        assert_eq!(found, [true, true, false, false]);
        assert_eq!(named("`a.rs` `x`, `y`; `b.rs` `z`"), [("a.rs", "x"), ("a.rs", "y"), ("b.rs", "z")]);
        assert_eq!(named(""), []);
    }
}
