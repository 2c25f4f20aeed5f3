//! A gate before a behaviour that came ready-made and knows nothing of admission.
//!
//! On each connection it is `Shut` at first: the peer's streams for it are refused and ours are not opened. It
//! `Listens` once the peer's certificate is valid, and is `Open` once the peer has said the same of ours. Ours must
//! not be opened earlier: a peer that refuses a protocol once counts as not speaking it at all.

use std::{
    collections::VecDeque,
    iter::Take,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend},
    },
};

/// A behaviour behind gates, one for each connection.
pub(crate) struct Gated<B> {
    pub(crate) inner: B,
    orders: VecDeque<(PeerId, ConnectionId, Gate)>,
    listening: VecDeque<ConnectionId>,
    waker: Option<Waker>,
}

/// What comes out, of the behaviour with the connection's id and of a connection's part without.
#[derive(Debug)]
pub(crate) enum GatedEvent<E, C = ConnectionId> {
    /// From now on the peer's streams are accepted on this connection.
    Listening(C),
    Inner(E),
}

/// How far the gate of a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    Shut,
    Listens,
    Open,
}

/// What a connection's part is told.
#[derive(Debug)]
pub(crate) enum Order<E> {
    Gate(Gate),
    Inner(E),
}

impl<B> Gated<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, orders: VecDeque::new(), listening: VecDeque::new(), waker: None }
    }

    /// Accepts the peer's streams; answered by [`GatedEvent::Listening`].
    pub(crate) fn listen(&mut self, peer: PeerId, connection: ConnectionId) {
        self.order(peer, connection, Gate::Listens);
    }

    /// Opens our streams too.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.order(peer, connection, Gate::Open);
    }

    fn order(&mut self, peer: PeerId, connection: ConnectionId, gate: Gate) {
        self.orders.push_back((peer, connection, gate));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = GatedEvent<B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(Handler::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port).map(Handler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            GatedEvent::Listening(()) => self.listening.push_back(connection),
            GatedEvent::Inner(event) => self.inner.on_connection_handler_event(peer, connection, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, gate)) = self.orders.pop_front() {
            let event = Order::Gate(gate);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        }
        if let Some(connection) = self.listening.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(GatedEvent::Listening(connection)));
        }
        self.waker = Some(cx.waker().clone());
        self.inner.poll(cx).map(|action| action.map_out(GatedEvent::Inner).map_in(Order::Inner))
    }
}

/// The part that lives with one connection.
pub(crate) struct Handler<H: ConnectionHandler> {
    inner: H,
    gate: Gate,
    /// That the gate listens is still to be said.
    unsaid: bool,
    /// A stream that the behaviour wanted before the gate was open.
    wanted: Option<SubstreamProtocol<H::OutboundProtocol, H::OutboundOpenInfo>>,
    waker: Option<Waker>,
}

impl<H: ConnectionHandler> Handler<H> {
    fn new(inner: H) -> Self {
        Self { inner, gate: Gate::Shut, unsaid: false, wanted: None, waker: None }
    }
}

type HandlerEvent<H> = ConnectionHandlerEvent<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
    GatedEvent<<H as ConnectionHandler>::ToBehaviour, ()>,
>;

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = Order<H::FromBehaviour>;
    type ToBehaviour = GatedEvent<H::ToBehaviour, ()>;
    type InboundProtocol = Upgrade<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        let shut = self.gate == Gate::Shut;
        self.inner.listen_protocol().map_upgrade(|inner| Upgrade { inner, shut })
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent<H>> {
        self.waker = Some(cx.waker().clone());
        if std::mem::take(&mut self.unsaid) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(GatedEvent::Listening(())));
        }
        match self.gate {
            Gate::Shut => return Poll::Pending,
            Gate::Listens if self.wanted.is_some() => return Poll::Pending,
            Gate::Listens => {}
            Gate::Open => {
                if let Some(protocol) = self.wanted.take() {
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
            }
        }
        let Poll::Ready(event) = self.inner.poll(cx) else { return Poll::Pending };
        match event {
            ConnectionHandlerEvent::OutboundSubstreamRequest { protocol } if self.gate == Gate::Listens => {
                self.wanted = Some(protocol);
                Poll::Pending
            }
            event => Poll::Ready(event.map_custom(GatedEvent::Inner)),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx).map(|event| event.map(GatedEvent::Inner))
    }

    fn on_behaviour_event(&mut self, order: Self::FromBehaviour) {
        match order {
            Order::Gate(gate) => {
                // Certificates that are shown again later close nothing.
                self.gate = self.gate.max(gate);
                self.unsaid |= gate == Gate::Listens;
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
            Order::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, Self::InboundOpenInfo, Self::OutboundOpenInfo>,
    ) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => ConnectionEvent::FullyNegotiatedOutbound(event),
            ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
            ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
            ConnectionEvent::LocalProtocolsChange(event) => ConnectionEvent::LocalProtocolsChange(event),
            ConnectionEvent::RemoteProtocolsChange(event) => ConnectionEvent::RemoteProtocolsChange(event),
            _ => return,
        };
        self.inner.on_connection_event(event);
    }
}

/// The inner protocols, or none while the gate is shut.
pub(crate) struct Upgrade<U> {
    inner: U,
    shut: bool,
}

impl<U: UpgradeInfoSend> UpgradeInfo for Upgrade<U> {
    type Info = U::Info;
    type InfoIter = Take<U::InfoIter>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.inner.protocol_info().take(if self.shut { 0 } else { usize::MAX })
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Upgrade<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, protocol: U::Info) -> Self::Future {
        self.inner.upgrade_inbound(stream, protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use libp2p::{core::upgrade::ReadyUpgrade, swarm::dummy};

    type Named = ReadyUpgrade<&'static str>;

    /// How often somebody was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A behaviour's part that wants these things done, one after the other, and counts what it is told.
    #[derive(Default)]
    struct Wants {
        events: VecDeque<ConnectionHandlerEvent<Named, (), u8>>,
        told: usize,
    }

    impl ConnectionHandler for Wants {
        type FromBehaviour = ();
        type ToBehaviour = u8;
        type InboundProtocol = Named;
        type OutboundProtocol = Named;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<Named, ()> {
            SubstreamProtocol::new(ReadyUpgrade::new("/theirs"), ())
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Named, (), u8>> {
            self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
        }

        fn on_behaviour_event(&mut self, (): ()) {
            self.told += 1;
        }

        fn on_connection_event(&mut self, _: ConnectionEvent<Named, Named, (), ()>) {
            self.told += 1;
        }
    }

    /// A gate before a part that says one word, wants a stream and says another word; and who is woken by it.
    struct Shown {
        handler: Handler<Wants>,
        wakes: Arc<Wakes>,
    }

    impl Shown {
        fn new() -> Self {
            let stream = SubstreamProtocol::new(ReadyUpgrade::new("/ours"), ());
            let events = [
                ConnectionHandlerEvent::NotifyBehaviour(1),
                ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: stream },
                ConnectionHandlerEvent::NotifyBehaviour(2),
            ];
            let inner = Wants { events: events.into(), told: 0 };
            Self { handler: Handler::new(inner), wakes: Arc::default() }
        }

        fn order(&mut self, gate: Gate) -> usize {
            let before = self.wakes.0.load(Ordering::Relaxed);
            self.handler.on_behaviour_event(Order::Gate(gate));
            self.wakes.0.load(Ordering::Relaxed) - before
        }

        /// Everything that happens until nothing more does.
        fn events(&mut self) -> Vec<String> {
            let waker = Arc::clone(&self.wakes).into();
            let mut events = Vec::new();
            while let Poll::Ready(event) = self.handler.poll(&mut Context::from_waker(&waker)) {
                events.push(match event {
                    ConnectionHandlerEvent::NotifyBehaviour(GatedEvent::Listening(())) => "listens".to_owned(),
                    ConnectionHandlerEvent::NotifyBehaviour(GatedEvent::Inner(word)) => word.to_string(),
                    ConnectionHandlerEvent::OutboundSubstreamRequest { .. } => "stream".to_owned(),
                    other => panic!("{other:?}"),
                });
            }
            events
        }

        fn accepts(&self) -> bool {
            UpgradeInfo::protocol_info(self.handler.listen_protocol().upgrade()).count() > 0
        }
    }

    #[test]
    fn a_gate_lets_nothing_through_then_words_and_their_streams_and_then_ours() {
        let mut shown = Shown::new();
        assert_eq!((shown.events(), shown.accepts()), (vec![], false));
        assert_eq!(shown.order(Gate::Listens), 1, "whoever waits is woken");
        assert_eq!((shown.events(), shown.accepts()), (vec!["listens".to_owned(), "1".to_owned()], true));
        assert_eq!(shown.events(), Vec::<String>::new(), "its stream waits, and what is behind it");
        assert_eq!(shown.order(Gate::Open), 1);
        assert_eq!((shown.events(), shown.accepts()), (vec!["stream".to_owned(), "2".to_owned()], true));
    }

    #[test]
    fn a_gate_that_is_open_stays_open_and_is_said_to_listen_each_time_that_it_is_told_to() {
        let mut shown = Shown::new();
        shown.order(Gate::Open);
        assert_eq!(shown.events(), ["1", "stream", "2"].map(str::to_owned));
        shown.order(Gate::Listens);
        let stream = SubstreamProtocol::new(ReadyUpgrade::new("/ours"), ());
        shown.handler.inner.events.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: stream });
        assert_eq!((shown.events(), shown.accepts()), (["listens", "stream"].map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn what_is_behind_the_gate_is_told_all_that_concerns_it() {
        let mut shown = Shown::new();
        shown.handler.on_behaviour_event(Order::Inner(()));
        assert_eq!(shown.handler.inner.told, 1);
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let change = libp2p::swarm::handler::AddressChange { new_address: &address };
        shown.handler.on_connection_event(ConnectionEvent::AddressChange(change));
        assert_eq!(shown.handler.inner.told, 2);
        assert!(!shown.handler.connection_keep_alive(), "it keeps nothing alive by itself");
    }

    #[test]
    fn orders_and_answers_go_out_in_their_order() {
        let mut gated = Gated::new(dummy::Behaviour);
        let wakes = Arc::<Wakes>::default();
        let waker = Arc::clone(&wakes).into();
        let poll = |gated: &mut Gated<dummy::Behaviour>| match gated.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(ToSwarm::NotifyHandler { handler: NotifyHandler::One(id), event: Order::Gate(gate), .. }) => {
                Some((id, Some(gate)))
            }
            Poll::Ready(ToSwarm::GenerateEvent(GatedEvent::Listening(id))) => Some((id, None)),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => None,
        };
        let (peer, [one, two]) = (PeerId::random(), [1, 2].map(ConnectionId::new_unchecked));
        assert_eq!(poll(&mut gated), None);
        gated.listen(peer, one);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "whoever waits is woken");
        gated.open(peer, one);
        gated.listen(peer, two);
        for id in [one, two] {
            gated.on_connection_handler_event(peer, id, GatedEvent::Listening(()));
        }
        let all: Vec<_> = std::iter::from_fn(|| poll(&mut gated)).collect();
        let orders = [(one, Some(Gate::Listens)), (one, Some(Gate::Open)), (two, Some(Gate::Listens))];
        assert_eq!(all, [&orders[..], &[(one, None), (two, None)]].concat());
    }
}
