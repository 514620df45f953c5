// Package audit keeps a log of who did what that nobody can change unseen, and
// proves a copy of it offline.
//
// Every command and every denial is one Entry: one leaf of a Merkle tree
// (RFC 6962) whose root is signed in a checkpoint. What lies in the storage
// follows the C2SP specifications tlog-tiles, tlog-checkpoint and signed-note,
// so that monitors and witnesses of other makers can read it. A Log writes,
// Prove and Consistency make proofs, Verify checks a whole copy, and Cosign is
// the heart of a witness.
//
// Known limits:
//   - Who holds the log's private key and the storage can write another history.
//     Only a witness elsewhere, or a checkpoint saved elsewhere, shows that:
//     give Verify one of the two.
//   - An entry is deduplicated by its id within the last Config.Recent entries;
//     older ones are Config.Known's business.
//   - Entries are never pruned, and hold no personal data that would have to be.
//   - A partial tile that a wider one has replaced may be deleted unseen: the
//     wider one holds all of it.
//   - Folder needs flock, so a local file system of a Unix.
package audit
