"""The ledger: its server, the writer of batches, entries, Merkle tree, proofs and audit."""
