package audit

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

// Checkpoint is what a log's signature states: that its first Size leaves have
// the Root (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

func (c Checkpoint) tree() tlog.Tree { return tlog.Tree{N: c.Size, Hash: c.Root} }

// sign returns the checkpoint as a note with a signature of every key.
func (c Checkpoint) sign(keys []Key) ([]byte, error) {
	return signNote(&note.Note{Text: c.text()}, time.Time{}, keys...)
}

func signNote(n *note.Note, at time.Time, keys ...Key) ([]byte, error) {
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signers[i] = signer{k, at}
	}
	return note.Sign(n, signers...)
}

// ParseCheckpoint reads a checkpoint that at least one of the log's keys has
// signed. It is fault.PermissionDenied where none has, and fault.Invalid where
// it is no checkpoint of the log or a known key's signature is wrong.
func ParseCheckpoint(signed []byte, log ...PublicKey) (Checkpoint, error) {
	c, _, err := openCheckpoint(signed, log)
	return c, err
}

// openCheckpoint also returns the note, with the signatures by keys.
func openCheckpoint(signed []byte, keys []PublicKey) (Checkpoint, *note.Note, error) {
	n, err := openNote(signed, keys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c, err := parseCheckpointText(n.Text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if c.Origin != n.Sigs[0].Name {
		return Checkpoint{}, nil, badCheckpoint("checkpoint is of the origin %q, but signed as %q", c.Origin, n.Sigs[0].Name)
	}
	return c, n, nil
}

func openNote(signed []byte, keys []PublicKey) (*note.Note, error) {
	var list []note.Verifier
	for i, k := range keys {
		if !slices.Contains(keys[:i], k) { // note calls a key given twice ambiguous
			list = append(list, k)
		}
	}
	n, err := note.Open(signed, note.VerifierList(list...))
	if _, unknown := errors.AsType[*note.UnverifiedNoteError](err); unknown {
		return nil, fault.Wrap(fault.PermissionDenied, err, "none of the given keys has signed the checkpoint").WithCode("audit_unsigned")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "checkpoint cannot be read").WithCode("invalid_audit_checkpoint")
	}
	// One signature has one spelling here, which note does not ask for.
	for _, sig := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return nil, badCheckpoint("signature of %s is not in canonical base64", sig.Name)
		}
	}
	return n, nil
}

func parseCheckpointText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return Checkpoint{}, badCheckpoint("checkpoint has not exactly an origin, a size and a root hash, a line each")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, badCheckpoint("size %q of the checkpoint is no decimal number", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil || root.String() != lines[2] {
		return Checkpoint{}, badCheckpoint("root hash %q of the checkpoint is not 32 bytes in base64", lines[2])
	}
	return Checkpoint{lines[0], size, root}, nil
}

func badCheckpoint(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("invalid_audit_checkpoint")
}
