package audit

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

// Cosign is the judgement of a witness (C2SP tlog-witness): it returns the next
// checkpoint with the witness's cosignature/v1 added, if one of the log's keys
// has signed it and the proof shows that it continues the last one, which is the
// checkpoint that the witness cosigned last for this log, as it stored it, and
// nil if there is none. The witness stores the result, durably and with last
// compared again, before it hands it out.
//
// Errors: fault.PermissionDenied where the log has not signed; fault.Invalid
// for a smaller size or a malformed checkpoint; fault.Conflict with the code
// audit_fork or audit_inconsistent, which are evidence: keep both checkpoints.
func Cosign(witness Key, at time.Time, log []PublicKey, last, next []byte, proof []tlog.Hash) ([]byte, error) {
	if witness.algorithm != cosigns {
		return nil, invalidKey("key %s is a log's, expected one that NewWitnessKey made", witness)
	}
	to, n, err := openCheckpoint(next, log)
	if err != nil {
		return nil, err
	}
	from := Checkpoint{Origin: to.Origin}
	if last != nil {
		if from, err = ParseCheckpoint(last, log...); err != nil {
			return nil, err
		}
	}
	if err := CheckConsistency(from, to, proof); err != nil {
		return nil, err
	}
	return signNote(n, at, witness)
}

// Witnessed stores a checkpoint of this log with the cosignatures of
// witnesses, beside the checkpoint that moves on with every batch. Verify finds
// it there. It must be signed by this log and at least one of the witnesses.
func (l *Log) Witnessed(ctx context.Context, signed []byte, witnesses ...PublicKey) error {
	c, err := ParseCheckpoint(signed, l.trusted()...)
	if err != nil {
		return err
	}
	if size := l.Size(); c.Size > size {
		return fault.New(fault.Conflict, "the cosigned checkpoint is of size %d, the log of size %d", c.Size, size).WithCode("audit_fork")
	}
	if n, err := cosigners(signed, witnesses); err != nil || n == 0 {
		return fault.Wrap(fault.PermissionDenied, err, "none of the witnesses has signed the checkpoint").WithCode("audit_unsigned")
	}
	return storageError(l.storage.Write(ctx, witnessedName, signed))
}

// cosigners counts the witnesses that have signed. A key counts once, also
// under several names: its signature does not say which.
func cosigners(signed []byte, witnesses []PublicKey) (int, error) {
	for _, k := range witnesses {
		if k.algorithm != cosigns {
			return 0, invalidKey("key %s is a log's, expected a witness's", k)
		}
	}
	n, err := openNote(signed, witnesses)
	if fault.Is(err, fault.PermissionDenied) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	keys := make(map[string]bool)
	for _, sig := range n.Sigs {
		keys[keyOfSignature(sig, witnesses)] = true
	}
	return len(keys), nil
}

func keyOfSignature(sig note.Signature, keys []PublicKey) string {
	for _, k := range keys {
		if k.name == sig.Name && k.KeyHash() == sig.Hash {
			return k.key
		}
	}
	return ""
}
