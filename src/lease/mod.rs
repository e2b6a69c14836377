//! One leader among the replicas.
