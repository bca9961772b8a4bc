//! (room failover)
