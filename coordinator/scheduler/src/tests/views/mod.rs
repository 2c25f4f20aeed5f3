mod explained;
mod fleet;
