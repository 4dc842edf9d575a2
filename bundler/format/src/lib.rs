//! The bundle archive over Read and Write: index, digests, signature.
