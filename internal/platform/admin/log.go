package admin

import (
	"context"
	"net/http"
	"strings"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
)

// logFile asks for a file of the audit log, proofOf for the proof of an entry.
type (
	logFile struct {
		cqrs.Returns[[]byte]
		name string
	}
	proofOf struct {
		cqrs.Returns[audit.Proof]
		id trail.EntryID
	}
)

func (logFile) QueryName() string { return "audit_log.read" }
func (proofOf) QueryName() string { return "audit_entries.prove" }

// Media types of the log (C2SP tlog-tiles).
const (
	plain  = "text/plain; charset=utf-8"
	binary = "application/octet-stream"
)

// raw is a file as it is.
type raw struct {
	Type  string `header:"Content-Type"`
	Cache string `header:"Cache-Control"`
	Body  []byte
}

// log adds what witnesses and auditors read: the log itself, and the proof that
// an entry is in it.
func (m Admin) log(a *api.API, b *cqrs.Bus) {
	cqrs.HandleQuery(b, trail.ReadLog, func(ctx context.Context, _ repo.Reading, q logFile) ([]byte, error) { return m.Trail.File(ctx, q.name) }, cqrs.Platform())
	cqrs.HandleQuery(b, trail.Read, func(ctx context.Context, from repo.Reading, q proofOf) (audit.Proof, error) {
		return m.Trail.Prove(ctx, from, q.id)
	})
	const about = "The audit log is a Merkle tree in the form of C2SP tlog-tiles, with a signed checkpoint. Whoever keeps checkpoints notices when it is changed, cut or forked. Tiles are at /audit-log/tile/ with level/index, or entries/index, as tlog-tiles has them."
	op := func(id, path, summary, produces string) api.Operation {
		media, _, _ := strings.Cut(produces, ";")
		return api.Operation{ID: id, Method: http.MethodGet, Path: "/audit-log/" + path, Summary: summary, Description: about, Tags: []string{"audit_log"},
			Permission: trail.ReadLog, Produces: []string{media}}
	}
	// Credentials are needed, so caches that many share must not keep it.
	api.Register(a, op("get-audit-checkpoint", "checkpoint", "Read: checkpoint", plain), func(ctx context.Context, _ *struct{}) (*raw, error) {
		data, err := cqrs.Ask(ctx, b, logFile{name: "checkpoint"})
		return &raw{plain, "private, no-cache", data}, err
	})
	api.Register(a, op("get-audit-tile", "tile/*", "Read: tile or bundle of entries", binary), func(ctx context.Context, in *struct {
		Path string `path:"*" hidden:"true"` // OpenAPI has no parameters with slashes
	}) (*raw, error) {
		data, err := cqrs.Ask(ctx, b, logFile{name: "tile/" + in.Path})
		return &raw{binary, "private, max-age=31536000, immutable", data}, err
	})
	m.proofs(a, b)
}

// proofs adds the proof of an entry, and the entry as it is in the log, which is
// what the proof is about.
func (m Admin) proofs(a *api.API, b *cqrs.Bus) {
	type in struct {
		ID string `path:"id" maxLength:"64"`
	}
	op := func(id, path, summary, produces string) api.Operation {
		return api.Operation{ID: id, Method: http.MethodGet, Path: "/audit-entries/{id}/" + path, Summary: summary, Tags: []string{trail.Entries.Name},
			Description: "The proof shows, with the log's public key and the leaf, that the entry is in the log (C2SP tlog-proof).", Permission: trail.Read, Produces: []string{produces}}
	}
	api.Register(a, op("get-audit-proof", "proof", "Read: proof of an audit entry", "text/plain"), func(ctx context.Context, in *in) (*raw, error) {
		proof, err := cqrs.Ask(ctx, b, proofOf{id: trail.EntryID(in.ID)})
		if err != nil {
			return nil, err
		}
		text, err := proof.MarshalText()
		return &raw{plain, "private, no-cache", text}, err
	})
	api.Register(a, op("get-audit-leaf", "leaf", "Read: leaf of an audit entry", binary), func(ctx context.Context, in *in) (*raw, error) {
		proof, err := cqrs.Ask(ctx, b, proofOf{id: trail.EntryID(in.ID)})
		return &raw{binary, "private, max-age=31536000, immutable", proof.Leaf}, err
	})
}
