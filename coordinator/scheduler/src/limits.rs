//! The numbers that the scheduler decides by, each with its reason. Tests and the simulator set their own.

use std::time::Duration;

use lull_shared::limits;

use crate::jobs::holding::Allowance;

/// What the scheduler may be told otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The silence limit. An agent that said nothing for this long is out of touch, whether its stream is open or not: its
    /// attempts are unreachable.
    pub lease: Duration,
    /// How long agents have to come to a coordinator that has just begun to lead, before they count as out of touch; and
    /// how long copies wait after the last of those came back that had fallen silent together.
    pub reconnect_grace: Duration,
    /// So many agents that fall silent within [`Self::together_span`]...
    pub together_agents_min: usize,
    /// ...and are this part of those that were there, in percent, have fallen silent together: machines die alone, and
    /// what takes a fifth of them at once is a switch, a cable or our own network.
    pub together_percent_min: usize,
    /// Last words of one misfortune are no further apart: a switch takes seconds, and streams that fail notice as late.
    pub together_span: Duration,
    /// Agents that fell silent together have this long to come back before second copies start: a switch that restarts
    /// takes a minute, and what runs there goes on meanwhile.
    pub patience: Duration,
    /// How often it is looked who came back, and one more part of the copies is started.
    pub silence_look: Duration,
    /// In each look copies are started for one in so many slots of those agents that are there: half a minute for all,
    /// where half of a full fleet is gone.
    pub slots_per_copy: u64,
    /// Machines that may be lost for good while they ran a task: the last of them fails it. A function that kills what
    /// runs it must end, and machines that are switched off hard are few.
    pub lost_max: u32,
    /// Effects that may wait to be carried out while more is decided: about what one transaction of the store takes. What may
    /// go on for longer than that leaves the rest to the next call of [`crate::Scheduler::handle_timeout`], which is due at
    /// once.
    pub effects_waiting_max: usize,
    /// Tasks that a retry queues again at once: half of what one transaction takes, since they may start in the same.
    pub retry_part_max: u32,
    /// Jobs that have not ended; one more is refused.
    pub jobs_active_max: usize,
    /// What one submitter may have of them, and in them.
    pub allowance: Allowance,
    /// Attempts with one agent, running and waiting there.
    pub attempts_per_agent_max: u32,
    /// How much work should lie ready behind each slot: longer than a round trip, short enough to be worth no recall.
    pub prefetch_work: Duration,
    /// Attempts that wait with one agent, whatever the work. Zero turns prefetching off.
    pub prefetch_attempts_max: u32,
    /// Results after which the mean time of a job's tasks is believed.
    pub prefetch_after_results: u32,
    /// A waiting attempt is taken back for a free slot elsewhere if it would wait longer than this: a recall's round trip.
    pub rebalance_gain_min: Duration,
    /// A running attempt is moved to a faster agent if that saves more than this: a move costs seconds, and what is
    /// expected of the rest of a task is a guess.
    pub move_gain_min: Duration,
    /// An attempt that has been off the processor for so long for want of room goes on elsewhere; less may be a bump.
    pub stalled_after: Duration,
    /// After a refusal an agent is not offered that job for this long; it doubles with each refusal...
    pub refusal_pause_min: Duration,
    /// ...up to this.
    pub refusal_pause_max: Duration,
    /// What a submitter used counts half after this: yesterday's night matters, last month's does not.
    pub usage_half_life: Duration,
    /// What each attempt that a submitter has with agents counts beside what was used, so that slots that come free
    /// together are dealt out in turns.
    pub attempt_weight: Duration,
    /// A job is as urgent as one of a priority higher by one that was submitted this much later. So the higher priority
    /// goes first, and nothing waits for ever behind a stream of newer jobs.
    pub priority_step: Duration,
    /// How long a machine is left alone on average, while nothing better is known of it: what decides whether a task is
    /// worth a build that can be moved.
    pub undisturbed: Duration,
    /// A task whose attempt has run this many times as long as others did on average gets a second one beside it, if
    /// slots are free: one in a hundred does that by chance where lengths vary as waiting times do...
    pub straggler_factor: u32,
    /// ...yet not before it has run for this long: below, fetching and compiling the module elsewhere takes as long.
    pub straggler_time_min: Duration,
    /// Results after which the mean time of a job's tasks says what is long.
    pub straggler_after_results: u32,
    /// How often it is looked for such tasks, in each job that has nothing left to start: a part of
    /// [`Self::straggler_time_min`], and rare enough that looking at every attempt costs nothing.
    pub straggler_look: Duration,
    /// Second attempts begun in one look: the rest follow with the next.
    pub second_copies_per_look_max: usize,
    /// Snapshots that this coordinator keeps itself since no agent can, in bytes.
    pub snapshots_here_bytes_max: u64,
    /// Whether what is known of machines' hours decides anything; off: they are kept and shown only.
    pub believes_hours: bool,
    /// So many attempts of a task may end in a row because of their agents' troubles: a function that brings them about
    /// must come to an end, and no fleet is in so much trouble by chance.
    pub troubles_per_task_max: u32,
    /// An attempt is taken back that has run for longer than its limit, a tenth of it, and this: words, ends of processes and
    /// naps that were not announced are no longer on their way.
    pub overtime_margin: Duration,
    /// What an agent with room does not begin for so long is taken back: by then the slowest line has brought the module,
    /// and the slowest machine compiled it.
    pub begin_max: Duration,
    /// An agent that broke the protocol so often in a row, with no result of it taken in between, loses all that it has.
    /// What one bug brings about may happen twice; a third time shows that nothing comes of it.
    pub breaches_max: u32,
    /// A breach so long after the one before begins a new row: an agent comes back within seconds.
    pub breach_span: Duration,
    /// Jobs whose briefs one agent keeps; an agent that needs more forgets one of which it has nothing.
    pub terms_per_agent_max: usize,
    /// Jobs per agent whose refusals are remembered.
    pub refusals_per_agent_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: limits::LEASE,
            reconnect_grace: limits::RECONNECT_GRACE,
            together_agents_min: 3,
            together_percent_min: 20,
            together_span: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            silence_look: Duration::from_secs(1),
            slots_per_copy: 32,
            lost_max: 5,
            effects_waiting_max: 4_096,
            retry_part_max: 2_048,
            jobs_active_max: limits::JOBS_ACTIVE_MAX,
            allowance: Allowance::default(),
            attempts_per_agent_max: limits::ATTEMPTS_PER_AGENT_MAX as u32,
            prefetch_work: Duration::from_millis(100),
            prefetch_attempts_max: 1024,
            prefetch_after_results: 4,
            rebalance_gain_min: Duration::from_millis(5),
            move_gain_min: Duration::from_secs(60),
            stalled_after: Duration::from_secs(10),
            refusal_pause_min: Duration::from_secs(1),
            refusal_pause_max: Duration::from_secs(60),
            usage_half_life: Duration::from_secs(24 * 60 * 60),
            attempt_weight: Duration::from_secs(60),
            priority_step: Duration::from_secs(24 * 60 * 60),
            undisturbed: Duration::from_secs(2 * 60 * 60),
            straggler_factor: 5,
            straggler_time_min: Duration::from_secs(30),
            straggler_after_results: 3,
            straggler_look: Duration::from_secs(5),
            second_copies_per_look_max: 64,
            snapshots_here_bytes_max: 2 * 1024 * 1024 * 1024,
            believes_hours: true,
            troubles_per_task_max: 16,
            overtime_margin: Duration::from_secs(60),
            begin_max: Duration::from_secs(60 * 60),
            breaches_max: 3,
            breach_span: Duration::from_secs(60 * 60),
            terms_per_agent_max: 256,
            refusals_per_agent_max: 64,
        }
    }
}
