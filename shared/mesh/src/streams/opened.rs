//! Streams of our own protocols: the swarm's part that opens them and reports those that peers open.
//!
//! A ready-made crate exists for this, but it drops an incoming stream whenever the last one was not yet taken, keeps
//! something for every connection there ever was, and does not say on which connection a stream came; admission
//! needs all three.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    iter::Copied,
    slice::Iter,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use lull_shared::{limits, protocol};
use tokio::sync::oneshot;

/// The protocols that run over streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Admission,
    Enrolment,
    Work,
    Blob,
    Delivery,
}

/// All of them, in the order in which they are declared.
pub(crate) static PROTOCOLS: [Protocol; 5] =
    [Protocol::Admission, Protocol::Enrolment, Protocol::Work, Protocol::Blob, Protocol::Delivery];

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Admission => protocol::ADMISSION,
            Self::Enrolment => protocol::ENROLMENT,
            Self::Work => protocol::WORK,
            Self::Blob => protocol::BLOB,
            Self::Delivery => protocol::DELIVERY,
        }
    }
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) protocol: Protocol,
    pub(crate) stream: Stream,
}

/// Where an opened stream goes. When it is dropped, the connection is gone.
pub(crate) type Opened = oneshot::Sender<Result<Stream, String>>;

/// The swarm's part.
#[derive(Default)]
pub(crate) struct Behaviour {
    actions: VecDeque<ToSwarm<Incoming, Open>>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// Opens a stream on this connection. Callers are bounded, so the queue is.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId, protocol: Protocol, opened: Opened) {
        let event = Open { protocol, opened };
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::One(connection), event });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let (protocol, stream) = event;
        self.actions.push_back(ToSwarm::GenerateEvent(Incoming { peer, connection, protocol, stream }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A wish for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    protocol: Protocol,
    opened: Opened,
}

/// The part that lives with one connection. It keeps the connection alive: the node alone decides when one ends.
#[derive(Default)]
pub(crate) struct Handler {
    wanted: VecDeque<Open>,
    incoming: VecDeque<(Protocol, Stream)>,
    waker: Option<Waker>,
}

impl Handler {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Protocol, Stream);
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(&PROTOCOLS), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Opened, Self::ToBehaviour>> {
        if let Some(incoming) = self.incoming.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(incoming));
        }
        if let Some(Open { protocol, opened }) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(Upgrade(&PROTOCOLS[protocol as usize..=protocol as usize]), opened);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, wish: Open) {
        self.wanted.push_back(wish);
        self.wake();
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), Opened>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, protocol), .. })
                if self.incoming.len() < limits::STREAMS_PER_CONNECTION_MAX =>
            {
                self.incoming.push_back((protocol, stream));
                self.wake();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info: opened }) => {
                // Whoever asked may have given up; the stream is then dropped, which resets it.
                let _ = opened.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: opened, error }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "it did not answer in time".to_owned(),
                    StreamUpgradeError::NegotiationFailed => "it does not speak this protocol or version".to_owned(),
                    StreamUpgradeError::Io(error) => error.to_string(),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = opened.send(Err(reason));
            }
            _ => {}
        }
    }
}

/// Agrees on one of some protocols and then leaves the stream alone.
#[derive(Debug, Clone)]
pub(crate) struct Upgrade(&'static [Protocol]);

impl UpgradeInfo for Upgrade {
    type Info = Protocol;
    type InfoIter = Copied<Iter<'static, Protocol>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().copied()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: Protocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: Protocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn opened() -> Opened {
        oneshot::channel().0
    }

    #[test]
    fn wishes_for_streams_go_out_in_their_order_and_wake_whoever_waits_for_them() {
        let wakes = Arc::<Wakes>::default();
        let waker = Arc::clone(&wakes).into();
        let mut cx = Context::from_waker(&waker);
        let mut behaviour = Behaviour::default();
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
        assert!(behaviour.poll(&mut cx).is_pending());
        behaviour.open(peer, id, Protocol::Work, opened());
        behaviour.open(peer, id, Protocol::Blob, opened());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        let mut handler = Handler::default();
        assert!(handler.poll(&mut cx).is_pending());
        for protocol in [Protocol::Work, Protocol::Blob] {
            let Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(to), event }) = behaviour.poll(&mut cx)
            else {
                panic!("a wish")
            };
            assert_eq!((peer_id, to, event.protocol), (peer, id, protocol));
            handler.on_behaviour_event(event);
        }
        assert!(behaviour.poll(&mut cx).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "the first wish woke the connection");
        for protocol in [Protocol::Work, Protocol::Blob] {
            let Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: asked }) = handler.poll(&mut cx) else {
                panic!("a request")
            };
            assert_eq!(UpgradeInfo::protocol_info(asked.upgrade()).collect::<Vec<_>>(), [protocol], "it and no other");
        }
        assert!(handler.poll(&mut cx).is_pending());
        handler.on_behaviour_event(Open { protocol: Protocol::Delivery, opened: opened() });
        assert_eq!(wakes.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_connection_lives_as_long_as_the_node_wants_and_takes_all_our_protocols() {
        let handler = Handler::default();
        assert!(handler.connection_keep_alive());
        assert_eq!(UpgradeInfo::protocol_info(handler.listen_protocol().upgrade()).collect::<Vec<_>>(), PROTOCOLS);
        let names: std::collections::BTreeSet<&str> = PROTOCOLS.iter().map(AsRef::as_ref).collect();
        assert_eq!(names.len(), PROTOCOLS.len());
        for (place, protocol) in PROTOCOLS.iter().enumerate() {
            assert_eq!(*protocol as usize, place, "in the order in which they are declared");
        }
    }
}
