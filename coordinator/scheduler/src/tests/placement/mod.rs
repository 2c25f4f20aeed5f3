pub(crate) mod rebalance;
