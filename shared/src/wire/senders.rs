//! Every message of the wire and who may send it. `MESSAGES.md` is this table for people.
//!
//! What somebody may not send cannot be understood where it arrives: each protocol is opened by some roles only
//! (`lull-mesh` resets the streams of others unread), and each of its two directions has its own type.

use crate::{
    message::{ToAgent, ToCoordinator},
    protocol::{
        ADMISSION, Admission, BLOB, BlobAnswer, BlobReply, DELIVERY, DeliveryReply, ENROLMENT, EnrolmentReply, EnrolmentRequest,
        WORK,
    },
};

/// Who may send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// Whoever knows the network's number and proved its key.
    Anybody,
    /// A machine that asks to become an agent, or to stay one.
    Stranger,
    /// An agent or a coordinator, admitted.
    Member,
    /// An agent, admitted.
    Agent,
    /// A coordinator, admitted.
    Coordinator,
}

impl Sender {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Stranger => "a machine that enrols",
            Self::Member => "a member",
            Self::Agent => "an agent",
            Self::Coordinator => "a coordinator",
        }
    }
}

/// One message of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The protocol or the topic that carries it.
    pub protocol: &'static str,
    pub name: &'static str,
    pub sender: Sender,
}

/// A message that knows who may send it.
pub trait Sent {
    /// Who may send it.
    fn sender(&self) -> Sender;
}

macro_rules! messages {
    ($($protocol:ident $type:ident { $($variant:ident $sender:ident),* $(,)? })*) => {
        $(impl Sent for $type {
            fn sender(&self) -> Sender {
                match self { $(Self::$variant { .. } => Sender::$sender,)* }
            }
        })*

        /// All of them that are variants of something.
        const VARIANTS: &[Message] = &[$($(
            Message {
                protocol: $protocol,
                name: concat!(stringify!($type), "::", stringify!($variant)),
                sender: Sender::$sender,
            },
        )*)*];
    };
}

messages! {
    ADMISSION Admission { Admitted Anybody, Stranger Anybody, Refused Anybody, Revoked Coordinator }
    ENROLMENT EnrolmentRequest { Join Stranger, Renew Stranger }
    ENROLMENT EnrolmentReply { Enrolled Coordinator, Refused Coordinator }
    WORK ToCoordinator {
        Hello Agent,
        Started Agent,
        Paused Agent,
        Saved Agent,
        Keeps Agent,
        Unkept Agent,
        Finished Agent,
        Remains Agent,
        Log Agent,
        Released Agent,
        Refused Agent,
        Heartbeat Agent,
        Capacity Agent,
        Blobs Agent,
        Policy Agent,
        Cards Agent,
        Sleeps Agent,
        Farewell Agent,
        Leaves Agent,
        Upgrade Agent,
    }
    WORK ToAgent {
        Welcome Coordinator,
        Brief Coordinator,
        Assign Coordinator,
        Recall Coordinator,
        Acknowledge Coordinator,
        Forget Coordinator,
        Discard Coordinator,
        Keep Coordinator,
        Safe Coordinator,
        Wake Coordinator,
        Intake Coordinator,
        Coordinators Coordinator,
        Policy Coordinator,
        ReadLog Coordinator,
        Goodbye Coordinator,
        Upgrade Coordinator,
    }
    BLOB BlobReply { Found Member, Missing Member }
    BLOB BlobAnswer { Piece Member, Nothing Member, Busy Member }
    DELIVERY DeliveryReply { Send Coordinator, Stored Coordinator, Refused Coordinator, Busy Coordinator }
}

/// Those that have one shape only.
const SHAPES: &[Message] = &[
    Message { protocol: ADMISSION, name: "Introduction", sender: Sender::Anybody },
    Message { protocol: BLOB, name: "BlobRequest", sender: Sender::Member },
    Message { protocol: BLOB, name: "BlobAsk", sender: Sender::Member },
    Message { protocol: DELIVERY, name: "DeliveryRequest", sender: Sender::Agent },
    Message { protocol: "lull/capacity/1/*", name: "Capacity", sender: Sender::Agent },
    Message { protocol: crate::protocol::REVOCATION_TOPIC, name: "Revocations", sender: Sender::Coordinator },
];

/// Every message of the wire.
pub fn all() -> impl Iterator<Item = Message> {
    SHAPES.iter().chain(VARIANTS).copied()
}
