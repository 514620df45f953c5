package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

// Trust is what a verifier knows without the log.
type Trust struct {
	// Keys are the log's public keys, one of which must have signed.
	Keys []PublicKey
	// Witnesses are the keys of witnesses, Quorum of which (all, if 0) must have
	// cosigned the checkpoint of the copy, its last witnessed one, or one of Saved.
	Witnesses []PublicKey
	Quorum    int
	// Saved are earlier checkpoints of the log, kept where its operator cannot
	// change them.
	Saved [][]byte
	// Entry, if given, is called for every entry that can be decoded, in order.
	// Believe none of them before the report is OK.
	Entry func(Logged) error
}

// Verify checks a copy of a log, such as os.DirFS of its folder, with nothing
// but the trust given: it hashes every entry again, compares every tile and the
// root with those hashes, and compares the history with all checkpoints that it
// is given. It needs memory for a few tiles and 8 bytes an entry.
//
// What is wrong with the copy is in the report. The error is only for what
// kept Verify from its work: ctx, Entry, or a Trust that is none.
func Verify(ctx context.Context, copied fs.FS, trust Trust) (*Report, error) {
	if len(trust.Keys) == 0 {
		return nil, fault.New(fault.Invalid, "verifying an audit log takes its public key")
	}
	if trust.Quorum < 0 || trust.Quorum > len(trust.Witnesses) {
		return nil, fault.New(fault.Invalid, "a quorum of %d needs that many witnesses, %d are given", trust.Quorum, len(trust.Witnesses))
	}
	v := &verifier{trust: trust, files: copied, report: &Report{Problems: []Problem{}}}
	if v.trust.Quorum == 0 {
		v.trust.Quorum = len(trust.Witnesses)
	}
	v.read = func(name string) ([]byte, error) { return fs.ReadFile(copied, name) }
	if !v.checkpoints() {
		return v.report, nil
	}
	whole, err := v.history(ctx)
	if err != nil {
		return nil, err
	}
	if whole {
		v.root()
		v.duplicates()
	}
	return v.report, v.strays(ctx)
}

// verifier is the state of one Verify.
type verifier struct {
	trust  Trust
	files  fs.FS
	read   reader
	report *Report

	head   Checkpoint
	marks  []mark // by size; those before next are compared
	next   int
	quorum bool // found under some checkpoint
	tree   tree
	ids    idSet
}

// mark is a checkpoint that the history must pass through.
type mark struct {
	Checkpoint
	file string
}

// checkpoints reads the copy's checkpoint and those to compare it with, and
// reports whether there is one to go by.
func (v *verifier) checkpoints() bool {
	signed, err := v.read(checkpointName)
	if err == nil {
		v.head, err = ParseCheckpoint(signed, v.trust.Keys...)
	}
	if err != nil {
		v.report.add(BadCheckpoint, checkpointName, "%v", err)
		return false
	}
	v.report.Origin, v.report.Size, v.report.Root = v.head.Origin, v.head.Size, v.head.Root.String()
	v.ids.reserve(v.head.Size)
	v.cosigned(checkpointName, v.head, signed)
	for i, saved := range v.trust.Saved {
		v.compareWith(fmt.Sprintf("saved checkpoint %d", i+1), saved)
		v.report.Compared++
	}
	if witnessed, err := v.read(witnessedName); err == nil {
		v.compareWith(witnessedName, witnessed)
	} else if !errors.Is(err, fs.ErrNotExist) {
		v.report.add(BadCheckpoint, witnessedName, "%v", err)
	}
	if len(v.trust.Witnesses) > 0 && !v.quorum {
		v.report.add(NoQuorum, checkpointName, "no checkpoint has the cosignatures of %d of the %d witnesses", v.trust.Quorum, len(v.trust.Witnesses))
	}
	slices.SortStableFunc(v.marks, func(a, b mark) int { return cmp.Compare(a.Size, b.Size) })
	return true
}

func (v *verifier) compareWith(file string, signed []byte) {
	c, err := ParseCheckpoint(signed, v.trust.Keys...)
	switch {
	case err != nil:
		v.report.add(BadCheckpoint, file, "%v", err)
		return
	case c.Origin != v.head.Origin:
		v.report.add(BadCheckpoint, file, "it is of the log %s", c.Origin)
		return
	case c.Size > v.head.Size:
		v.report.add(Truncated, file, "the log had %d entries when it was signed, the copy has %d", c.Size, v.head.Size)
	default:
		v.marks = append(v.marks, mark{Checkpoint: c, file: file})
	}
	v.cosigned(file, c, signed)
}

// cosigned notes how far a quorum of witnesses has seen the log.
func (v *verifier) cosigned(file string, c Checkpoint, signed []byte) {
	if len(v.trust.Witnesses) == 0 {
		return
	}
	n, err := cosigners(signed, v.trust.Witnesses)
	if err != nil {
		v.report.add(BadCheckpoint, file, "%v", err)
	}
	if err == nil && n >= v.trust.Quorum {
		v.quorum = true
		v.report.Witnessed = max(v.report.Witnessed, min(c.Size, v.head.Size))
	}
}

// root compares what all entries hash to with what was signed.
func (v *verifier) root() {
	root, err := v.tree.root()
	if err != nil || root != v.head.Root {
		v.report.add(BadRoot, checkpointName, "the entries have the root %v, signed is %v", root, v.head.Root)
	}
}

// duplicates reports ids that are logged twice.
func (v *verifier) duplicates() {
	suspects := v.ids.repeated()
	if len(suspects) == 0 {
		return
	}
	first := make(map[string]int64)
	_ = v.read.leaves(0, v.head.Size, func(index int64, leaf []byte) error { // what it cannot read is reported
		e, err := Decode(leaf)
		if err != nil || !suspects[v.ids.hash(e.ID)] {
			return nil //nolint:nilerr // reported
		}
		if earlier, ok := first[e.ID]; ok {
			v.report.add(Duplicate, tileName(bundleTile(index/width, v.head.Size)), "entries %d and %d both have the id %s", earlier, index, e.ID)
		} else {
			first[e.ID] = index
		}
		return nil
	})
}

// strays looks at the files that the checkpoint does not need: narrower tiles
// of earlier checkpoints must be the beginning of today's.
func (v *verifier) strays(ctx context.Context) error {
	err := fs.WalkDir(v.files, "tile", func(name string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil || d.IsDir() {
			return err
		}
		v.stray(name)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an empty log
	}
	return err
}

func (v *verifier) stray(name string) {
	t, ok := parseTile(name)
	if !ok {
		v.report.add(Unexpected, name, "a log has no such file")
		return
	}
	have := v.head.Size>>(height*max(t.L, 0)) - t.N*width // from the tile's beginning
	switch {
	case int64(t.W) > have || t.N > v.head.Size:
		v.report.Unpublished++
		return
	case int64(t.W) == min(have, width):
		return // the verified one
	}
	wide := t
	wide.W = int(min(have, width))
	all, err := v.read.tile(wide)
	if err != nil {
		return // reported
	}
	narrow, err := v.read.tile(t)
	if err != nil || !bytes.HasPrefix(all, narrow) {
		v.report.add(kindOf(t), name, "it is not the beginning of %s", tileName(wide))
	}
}

func kindOf(t tlog.Tile) string {
	if t.L == entries {
		return BadEntry
	}
	return BadTile
}
