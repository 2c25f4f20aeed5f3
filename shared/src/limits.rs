//! Every bound on what a peer, a user or a function may make us hold, with its reason.

use std::time::Duration;

/// One frame on a stream. Above it the stream is closed: a frame is a batch, and a batch can always be cut.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of input or output that travel inside a message; anything larger is a blob. A frame holds many of them.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Assignments in one frame, so that a frame of inline inputs stays within [`FRAME_BYTES_MAX`].
pub const ASSIGNMENTS_PER_FRAME_MAX: usize = 512;
/// Messages in one frame: an agent may have something to say about each attempt that it may hold. The least message
/// has one byte on the wire and hundreds in memory.
pub const MESSAGES_PER_FRAME_MAX: usize = ATTEMPTS_PER_AGENT_MAX;
/// Attempts that one agent may hold at once, running and prefetched. Bounds heartbeats and the agent's outbox.
pub const ATTEMPTS_PER_AGENT_MAX: usize = 4096;
/// Slots that one agent may offer: more cores than any office machine has.
pub const SLOTS_PER_AGENT_MAX: u16 = 256;
/// A blob: module, artifact, input or result.
pub const BLOB_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// A snapshot, compressed. A function whose state is larger cannot be moved and runs plain.
pub const SNAPSHOT_BYTES_MAX: u64 = BLOB_BYTES_MAX;
/// Snapshots that one agent keeps for others: each slot's last few.
pub const SNAPSHOTS_PER_AGENT_MAX: usize = 256;
/// Network cards of one machine, each with a subnet: more than a neighbour needs to wake it.
pub const CARDS_MAX: usize = 8;
/// A module that can be published. SQLite is 1 MB, a Python interpreter as a component 20 MB.
pub const MODULE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Tasks of one job; the index is 32 bits and counters must not overflow when added up.
pub const TASKS_PER_JOB_MAX: u32 = 10_000_000;
/// Jobs that are not ended; one more is refused with the advice to wait.
pub const JOBS_ACTIVE_MAX: usize = 100_000;
/// Arguments of a job, together, in bytes: they travel in one message and into the guest's memory.
pub const ARGS_BYTES_MAX: usize = 128 * 1024;
/// Constraints of a job and labels of an agent.
pub const LABELS_MAX: usize = 64;
/// A label's key or value, a function's name, an agent's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Retries that a job may ask for.
pub const RETRIES_MAX: u32 = 1000;
/// The longest pause before a retry: a task that may wait for longer belongs into another job.
pub const BACKOFF_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The default and the largest memory of an attempt. WebAssembly of 32 bits has 4 GiB at most.
pub const MEMORY_BYTES_DEFAULT: u64 = 512 * 1024 * 1024;
pub const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The default and the largest output of an attempt.
pub const OUTPUT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
pub const OUTPUT_BYTES_MAX: u64 = BLOB_BYTES_MAX;
/// The log kept of an attempt: its first and its last half, so that both the beginning and the end can be read.
pub const LOG_BYTES_DEFAULT: u64 = 64 * 1024;
pub const LOG_BYTES_MAX: u64 = 512 * 1024;
/// A part of a log that somebody reads while it is written: a few screens.
pub const LOG_PIECE_BYTES: usize = 32 * 1024;
/// The words of one failure, a backtrace included.
pub const FAILURE_BYTES_MAX: usize = 64 * 1024;
/// The default and the largest scratch folder of an attempt.
pub const SCRATCH_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
pub const SCRATCH_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// The default and the largest time of an attempt.
pub const ATTEMPT_TIME_DEFAULT: Duration = Duration::from_secs(60 * 60);
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often an agent tells the coordinator what it holds.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// The silence limit: an agent of which nothing was heard for this long is out of touch, and what it has may begin once
/// more elsewhere. Four heartbeats, and below the promised 5 s.
pub const LEASE: Duration = Duration::from_secs(4);
/// A coordinator that has had nothing to say for this long says that it is there, with a frame without messages.
pub const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// A coordinator that was silent for this long has lost the agent: three signs of life. An agent that leaves a
/// frozen one waits with the next when that takes over.
pub const SILENCE_MAX: Duration = Duration::from_millis(4_500);
/// How long a coordinator that stands by lets an agent wait when it may lead soon; below the agent's patience for an
/// answer to its greeting.
pub const STANDBY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Addresses of coordinators that an agent keeps: four coordinators, each at several addresses over TCP and QUIC.
pub const COORDINATOR_ADDRESSES_MAX: usize = 32;
/// What an agent has counts as lost when nothing was heard of it for this long: a day, since whoever takes a laptop home
/// in the evening brings it back the next morning. Until then its result counts; a second copy runs meanwhile.
pub const LOST_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// What a job may ask for: more than any blip, and less than what is never asked for again.
pub const LOST_AFTER_MIN: Duration = Duration::from_secs(60);
pub const LOST_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a coordinator that has just begun to lead waits for agents to come back with what they run.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(20);
/// A membership certificate's life. Agents renew at half of it whenever they are connected; a machine that was
/// switched off for longer keeps its place too, since an expired certificate of a known agent can be renewed.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A stranger's connection is cut when it has shown no certificate for this long.
pub const ADMISSION_TIME_MAX: Duration = Duration::from_secs(5);
/// Tries at enrolment that one address may make in a minute before it is refused unread.
pub const ENROLMENTS_PER_MINUTE_MAX: u32 = 60;

/// One frame of admission, enrolment or delivery, where nobody is known yet. A certificate has some 200 bytes.
pub const INTRODUCTION_BYTES_MAX: usize = 16 * 1024;
/// The revocations of a network, signed and encoded: ten thousand peers. They travel in one message.
pub const REVOCATIONS_BYTES_MAX: usize = 512 * 1024;
/// A connection that is not secured and multiplexed by then is given up.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// An enrolment takes at most this long: the coordinator writes it to its store first.
pub const ENROLMENT_TIME_MAX: Duration = Duration::from_secs(20);
/// A stranger's connection is cut after this time however often it tries to enrol.
pub const STRANGER_TIME_MAX: Duration = Duration::from_secs(60);
/// Enrolments that may be under way at once.
pub const ENROLMENTS_MAX: usize = 64;
/// Addresses whose enrolments are counted; beyond it new ones wait for the minute to pass.
pub const ENROLMENT_ADDRESSES_MAX: usize = 4096;
/// Incoming connections that agree on their keys at once; for one more the quietest of them is cut, or it dials again. When
/// a whole site comes back after a power cut, the first ones must be done before [`ADMISSION_TIME_MAX`], or none ever is.
pub const HANDSHAKES_MAX: usize = 256;
/// As many again for addresses from which members came, so that strangers never hold those up.
pub const HANDSHAKES_KNOWN_MAX: usize = 256;
/// Connections of peers that were never members and are not admitted yet. For one more the idlest of them is closed.
pub const STRANGERS_MAX: usize = 512;
/// Connections accepted: more than the largest fleet planned for (10,000 agents) has.
pub const CONNECTIONS_INCOMING_MAX: u32 = 16_384;
/// Connections made: coordinators, and peers that blobs were fetched from.
pub const CONNECTIONS_OUTGOING_MAX: u32 = 256;
/// Connections with one peer: TCP and QUIC, both ways at once.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Streams that one connection may have open towards us.
pub const STREAMS_PER_CONNECTION_MAX: usize = 16;
/// Pieces that are sent at once, each in memory; the next is told `Busy` and asks another peer, or later.
pub const BLOB_TRANSFERS_MAX: usize = 24;
/// Of those, how many one peer may have: nobody takes all of a machine's uplink.
pub const BLOB_TRANSFERS_PER_PEER_MAX: usize = 4;
/// The slowest upload that may be set, in bytes a second: with two pieces on their way each still takes 16 s, half of
/// [`TRANSFER_TIME_MAX`].
pub const UPLOAD_RATE_MIN: u64 = 32 * 1024;
/// Peers named to somebody who asks for a blob: enough that some give, few enough to be dialled at once.
pub const SOURCES_MAX: usize = 16;
/// Addresses kept and named of one peer: a machine has a few interfaces.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// Blobs that one agent tells its coordinator it holds: modules and artifacts are some dozens, and inputs seldom serve
/// twice. The whole list is 40 kB. Beyond it new ones are not told.
pub const HOLDINGS_MAX: usize = 1024;
/// Outputs that are taken in for one attempt: it has one, and brings it again only if the answer was lost.
pub const DELIVERIES_PER_ATTEMPT_MAX: u32 = 4;
/// Frames of one work stream that were read and wait for the coordinator's loop. Beyond it the stream is not read
/// further: one agent cannot fill the memory while the store is away.
pub const FRAMES_WAITING_MAX: usize = 8;
/// Large outputs that are taken in at once.
pub const DELIVERIES_MAX: usize = 16;
/// A piece, or an answer on a blob's or delivery's stream, that takes longer has failed.
pub const TRANSFER_TIME_MAX: Duration = Duration::from_secs(30);
/// A peer that reads nothing of a work stream for this long has lost it.
pub const SEND_TIME_MAX: Duration = Duration::from_secs(30);
/// Events that wait for a process to take them. Beyond it they are dropped, capacity first.
pub const EVENTS_WAITING_MAX: usize = 4096;
