package audit

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

// Proof shows with nothing but the log's public key that an entry is in the
// log: its index, the hashes beside its way to the root (RFC 6962 §2.1.1), and
// the checkpoint that has this root.
type Proof struct {
	Index      int64
	Leaf       []byte // the entry as it is in the log, see Decode
	Path       []tlog.Hash
	Checkpoint []byte
}

// Prove returns the proof that the entry with the index is in the log. It is
// fault.NotFound for an index that the published checkpoint does not cover.
func (l *Log) Prove(ctx context.Context, index int64) (Proof, error) {
	l.mu.Lock()
	c, signed := l.now, l.signed
	l.mu.Unlock()
	if index < 0 || index >= c.Size {
		return Proof{}, fault.New(fault.NotFound, "the audit log has no entry %d, its size is %d", index, c.Size)
	}
	read := l.reader(ctx)
	path, err := tlog.ProveRecord(c.Size, index, tlog.TileHashReader(c.tree(), read))
	if err != nil {
		return Proof{}, storageError(err)
	}
	leaves, err := read.bundle(index/width, c.Size)
	if err != nil {
		return Proof{}, storageError(err)
	}
	return Proof{Index: index, Leaf: leaves[index%width], Path: path, Checkpoint: bytes.Clone(signed)}, nil
}

// Check returns the entry that the proof is about, and the checkpoint that
// covers it, if the proof holds under one of the log's keys.
func (p Proof) Check(log ...PublicKey) (Entry, Checkpoint, error) {
	c, err := ParseCheckpoint(p.Checkpoint, log...)
	if err != nil {
		return Entry{}, Checkpoint{}, err
	}
	if p.Index < 0 || p.Index >= c.Size {
		return Entry{}, Checkpoint{}, badProof("entry %d is not covered by a checkpoint of size %d", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Path, c.Size, c.Root, p.Index, tlog.RecordHash(p.Leaf)); err != nil {
		return Entry{}, Checkpoint{}, badProof("it does not lead from the entry to the root")
	}
	e, err := Decode(p.Leaf)
	return e, c, err
}

// MarshalText returns the proof in the form of C2SP tlog-proof, to which the
// leaf belongs as a file of its own.
func (p Proof) MarshalText() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nindex %d\n", proofHeader, p.Index)
	for _, h := range p.Path {
		b.WriteString(h.String() + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes(), nil
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// UnmarshalText reads what MarshalText wrote; the leaf stays as it is.
func (p *Proof) UnmarshalText(text []byte) error {
	head, checkpoint, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || len(lines) > 2+64 || lines[0] != proofHeader {
		return badProof("it is not in the form %s", proofHeader)
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || strconv.FormatInt(index, 10) != number {
		return badProof("its second line is not an index")
	}
	var path []tlog.Hash
	for _, line := range lines[2:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return badProof("%q is not a hash", line)
		}
		path = append(path, h)
	}
	p.Index, p.Path, p.Checkpoint = index, path, []byte(checkpoint)
	return nil
}

// Consistency returns the proof that the log of the one size is the beginning
// of the log of the other (RFC 6962 §2.1.2), which must not be greater than the
// published size. It is empty from 0 and between equals.
func (l *Log) Consistency(ctx context.Context, from, to int64) ([]tlog.Hash, error) {
	c := l.published()
	if from < 0 || from > to || to > c.Size {
		return nil, fault.New(fault.Invalid, "no consistency proof from size %d to %d of an audit log of size %d", from, to, c.Size)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	proof, err := tlog.ProveTree(to, from, tlog.TileHashReader(c.tree(), l.reader(ctx)))
	return proof, storageError(err)
}

// CheckConsistency reports, as fault.Conflict, that the log of the last
// checkpoint is not the beginning of that of the next one. The caller has
// verified both.
func CheckConsistency(last, next Checkpoint, proof []tlog.Hash) error {
	switch {
	case last.Origin != next.Origin:
		return fault.New(fault.Invalid, "the checkpoints are of two logs, %s and %s", last.Origin, next.Origin)
	case last.Size > next.Size:
		return fault.New(fault.Invalid, "the checkpoint is of size %d, smaller than the earlier one of size %d", next.Size, last.Size).WithCode("audit_truncated")
	case last.Size == next.Size && last.Root != next.Root:
		return fault.New(fault.Conflict, "two checkpoints of size %d have different roots: the log was forked", last.Size).WithCode("audit_fork")
	case last.Size == 0 || last.Size == next.Size:
		if len(proof) > 0 {
			return badProof("it must be empty from size %d to %d", last.Size, next.Size)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, next.Size, next.Root, last.Size, last.Root); err != nil {
		return fault.Wrap(fault.Conflict, err, "the log of size %d is not shown to be the beginning of the one of size %d", last.Size, next.Size).WithCode("audit_inconsistent")
	}
	return nil
}

func badProof(format string, args ...any) error {
	return fault.New(fault.Invalid, "audit proof: %s", fmt.Sprintf(format, args...)).WithCode("invalid_audit_proof")
}
