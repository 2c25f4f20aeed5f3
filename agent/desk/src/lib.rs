//! What the people at a machine may know of its agent, and ask of it.
