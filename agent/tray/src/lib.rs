//! The tray icon of an agent.
