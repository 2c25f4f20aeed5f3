mod overtime;
mod results;
mod silence;
mod stragglers;
mod verification;
