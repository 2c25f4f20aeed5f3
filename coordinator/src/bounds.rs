//! What a peer or a submitter can fill in a coordinator's memory, and where that ends: the one list of it.
//!
//! Each bound is per peer or per submitter where one of them could otherwise take everything, and what a peer filled goes
//! when it goes. Whoever adds a map that a message or a request can make longer adds a line here, and a test that fills it.
//!
//! | what is kept | for whom | at most | at the bound | forgotten | held by |
//! |---|---|---|---|---|---|
//! | blobs that it asked for | agent with a stream | 64 | the first asked for goes | with the stream | [`crate::tracker`] `ASKED_MAX` |
//! | blobs that it says it holds | agent with a stream | [`lull_shared::limits::HOLDINGS_MAX`] | it broke the protocol | with the stream | [`crate::tracker`] |
//! | blobs that all say they hold | network | 2,000,000 | further ones are not noted | with the streams | [`crate::tracker`] `HOLDINGS_OF_ALL_MAX` |
//! | uploads that are counted | coordinator | 4,096 blobs | the longest unused goes | by that | [`crate::tracker`] `UPLOADED_MAX` |
//! | versions whose holders are followed | coordinator | 256 | the longest unused goes | by that | [`crate::tracker`] `VERSIONS_MAX` |
//! | deliveries of outputs that are counted | coordinator | 16,384 attempts | the oldest goes | by that | [`crate::blobs`] `COUNTED_MAX` |
//! | readers of its log | agent | 16 | a reader is told to come again | with the stream | [`crate::logs`] `READERS_PER_AGENT_MAX` |
//! | what it says of its policy | agent | 1, in all 100,000 | a new agent's is not noted | by the next | [`crate::policies`] `REPORTS_MAX` |
//! | frames read and not handled | stream | [`lull_shared::limits::FRAMES_WAITING_MAX`] | nothing more is read | with the stream | [`crate::network`] |
//! | orders written and not read | stream | a part of its queue | the stream is closed | with the stream | [`crate::dispatch::writer`] |
//! | attempts in one list | message | [`lull_shared::limits::ATTEMPTS_PER_AGENT_MAX`] | it broke the protocol | at once | [`crate::claims`], scheduler |
//! | attempts with it | agent | `attempts_per_agent_max` | it is given no more | as they end | scheduler `Limits` |
//! | results and withdrawals that it has not read of | agent | [`lull_shared::limits::ATTEMPTS_PER_AGENT_MAX`] | the first goes | as it reads | scheduler, `fleet` |
//! | refusals | agent | `refusals_per_agent_max` | the one that ends soonest goes | as they end | scheduler `Limits` |
//! | jobs whose terms it was told | stream | `terms_per_agent_max` | one without attempts goes | with the stream | scheduler `Limits` |
//! | programs with its identity | agent | 8 | the oldest goes | when trusted | scheduler, `twins` |
//! | times that it kept work too long | agent | 3 | it gets no work | when trusted, or after 30 days | scheduler, `overtime` |
//! | cards, labels, words about itself | agent | [`lull_shared::limits::CARDS_MAX`], [`lull_shared::limits::LABELS_MAX`], [`lull_shared::limits::NAME_BYTES_MAX`] | cut | by the next greeting | scheduler, `connection` |
//! | snapshots that it keeps | agent | [`lull_shared::limits::SNAPSHOTS_PER_AGENT_MAX`] | it broke the protocol | with the task | scheduler, `keeping` |
//! | certificates of members | node | [`lull_shared::limits::CONNECTIONS_INCOMING_MAX`] | the longest unused goes | by that | mesh, `KnownMembers` |
//! | addresses where it listens | connected peer | [`lull_shared::limits::PEER_ADDRESSES_MAX`] | cut | with the last connection | mesh, `Exchange` |
//! | peers out of reach | node | 1,024 | all are tried again | by that | mesh, `Exchange` |
//! | pieces that were given away | node | 256 blobs | the longest unused goes | after 10 minutes | mesh, `Seeding` |
//! | peers found on the subnet | node | 256 | further ones are not noted | when they fall silent | mesh, `Discovery` |
//! | addresses that asked to be enrolled | node | [`lull_shared::limits::ENROLMENT_ADDRESSES_MAX`] | further ones wait a minute | after a minute | mesh, `Door` |
//! | streams, pieces on their way | connection, peer | [`lull_shared::limits::STREAMS_PER_CONNECTION_MAX`], [`lull_shared::limits::BLOB_TRANSFERS_PER_PEER_MAX`] | reset, or `Busy` | as they end | mesh |
//! | revocations | network | [`lull_shared::limits::REVOCATIONS_BYTES_MAX`] | a longer list is not believed | by the next edition | mesh, `Membership` |
//! | active jobs, and what each may say | network, submitter | [`lull_shared::limits::JOBS_ACTIVE_MAX`] and its share | refused, with what to wait for | as they end | scheduler `Limits` |
//! | publications | coordinator, submitter | as the queue says | refused | some time after their end | [`crate::publishing`] |
