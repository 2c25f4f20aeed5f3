mod agents;
mod foreign;
mod hostile;
mod indexes;
mod twins;
mod waking;
