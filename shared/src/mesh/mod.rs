//! The libp2p node that agents and coordinators run.
