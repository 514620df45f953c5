package trail

import (
	"context"
	"errors"
	"io/fs"
	"regexp"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// ReadLog is the permission to read the log itself, in which the entries of all
// tenants are.
const ReadLog access.Permission = "audit_log:read"

// published are the files of a log by C2SP tlog-tiles: tile/<L>/<N>[.p/<W>] with
// a level of 0 to 63 or "entries", an index in groups of three digits, and a
// width of 1 to 255.
var published = regexp.MustCompile(`^(checkpoint|tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?)$`)

// File returns a file of the log, as witnesses and auditors read it. Other files
// of its storage, and those that are not there, are fault.NotFound. It is
// fault.Unavailable with the code "audit_not_writer" where this process cannot
// reach the log.
func (t *Trail) File(ctx context.Context, name string) ([]byte, error) {
	if !published.MatchString(name) {
		return nil, errNoFile
	}
	t.mu.RLock()
	storage := t.storage
	t.mu.RUnlock()
	if storage == nil {
		return nil, errNotWriter
	}
	data, err := storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFile
	}
	return data, err
}

var errNoFile error = fault.New(fault.NotFound, "the audit log has no such file: expected checkpoint or a tile that it covers; a partial tile goes when the full one comes").
	WithCode("not_found")

// Prove returns the proof that an entry which can be read from there is in the
// log, under its newest checkpoint. It is fault.Unavailable with the code
// "audit_not_writer" where another process writes the log.
func (t *Trail) Prove(ctx context.Context, from repo.Reading, id EntryID) (audit.Proof, error) {
	e, err := Entries.Get(ctx, from, id)
	if err != nil {
		return audit.Proof{}, err
	}
	log, err := t.current()
	if err != nil {
		return audit.Proof{}, err
	}
	proof, err := log.Prove(ctx, e.Index)
	if err != nil {
		return proof, err
	}
	// Another entry there would be somebody else's.
	if leaf, err := audit.Decode(proof.Leaf); err != nil || leaf.ID != string(id) {
		return audit.Proof{}, fault.New(fault.Internal, "the read model has the audit entry %s at index %d, where the log has another: the log is what counts", id, e.Index).WithCode("audit_read_model")
	}
	return proof, nil
}
