package upload

import (
	"context"
	"hash/maphash"
	"mime"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of uploads.
const (
	Read  access.Permission = "uploads:read"
	Write access.Permission = "uploads:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "see uploads, download and use their content", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "upload content", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
	}
}

// Create begins an upload.
type Create struct {
	cqrs.Returns[*Upload]
	Name, ContentType string
	Length            int64  // -1 where it is not known
	SHA256            string // hexadecimal; empty where it is not known
	Parts             bool   // clients put parts, and complete it: Length is known then
	PartSize          int64  // bytes of each but the last; 0 leaves it to the server
}

// CommandName implements cqrs.Command.
func (Create) CommandName() string { return "uploads.create" }

// begin makes a request the writer of an upload.
type begin struct {
	cqrs.Returns[*Upload]
	id      ID
	writer  string
	offset  int64
	numbers int
}

func (begin) CommandName() string         { return "uploads.append" }
func (c begin) Target() (kind, id string) { return Uploads.Name, string(c.id) }

// Delete drops an upload and its content.
type Delete struct {
	cqrs.Returns[*Upload]
	ID ID
}

// CommandName implements cqrs.Command.
func (Delete) CommandName() string { return "uploads.delete" }

// Target implements cqrs.Targeted.
func (c Delete) Target() (kind, id string) { return Uploads.Name, string(c.ID) }

// Find asks for one upload.
type Find struct {
	cqrs.Returns[*Upload]
	ID ID
}

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "uploads.read" }

// List asks for a page of uploads; an empty state selects all.
type List struct {
	cqrs.Returns[spec.Page[Upload]]
	State State
	Query spec.Query[Upload]
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "uploads.list" }

// register adds the commands and queries to the bus.
func (s *Service) register(b *cqrs.Bus) {
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Create) (*Upload, error) {
		u := &Upload{Name: c.Name, ContentType: c.ContentType, Length: c.Length, SHA256: c.SHA256, PartSize: c.PartSize}
		u.ID = repo.NewID[ID](tx, Prefix)
		u.move(Open, tx.Now().Add(s.cfg.Expiry))
		return u, Uploads.Add(ctx, tx, u)
	})
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c begin) (*Upload, error) {
		u, err := Uploads.Update(ctx, tx, c.id, func(u *Upload) error { return u.Take(c.writer, c.offset, c.numbers, s.cfg.MaxSize, tx.Now()) })
		return &u, err
	})
	s.registerParts(b)
	cqrs.Handle(b, Write, func(ctx context.Context, tx *repo.Tx, c Delete) (*Upload, error) {
		u, err := Uploads.Get(ctx, tx, c.ID)
		if err != nil {
			return nil, err
		}
		return &u, Uploads.Erase(ctx, tx, c.ID)
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q Find) (*Upload, error) {
		u, err := Uploads.Get(ctx, from, q.ID)
		return &u, err
	})
	cqrs.HandleQuery(b, Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Upload], error) {
		if q.State != "" {
			q.Query.Where = state.Eq(q.State)
		}
		return Uploads.Find(ctx, from, q.Query)
	})
}

// check validates what a client wants to upload.
func (s *Service) check(ctx context.Context, c *Create) error {
	media, _, err := mime.ParseMediaType(c.ContentType)
	if err != nil || !known(media) {
		return fault.New(fault.Unsupported, "the content type %q is not taken: expected one of %s", fault.Clip(c.ContentType, 80), strings.Join(Types(), ", ")).
			WithCode("upload_type_unsupported")
	}
	if c.Length < -1 {
		return fault.New(fault.Invalid, "a length of %d bytes is negative", c.Length)
	}
	if c.Length > s.cfg.MaxSize {
		return fault.New(fault.TooLarge, "an upload of %d bytes is larger than %d, which upload.max_size allows", c.Length, s.cfg.MaxSize).WithCode("upload_too_large")
	}
	if err := blob.CheckSHA256(c.SHA256); err != nil {
		return err
	}
	return s.checkParts(ctx, c)
}

// Create begins an upload, if there is room for it in its tenant's quota. The
// check and the upload are one step among those of the tenant in this process.
func (s *Service) Create(ctx context.Context, c Create) (*Upload, error) {
	if err := s.check(ctx, &c); err != nil {
		return nil, err
	}
	p, _ := access.From(ctx)
	if p != nil && p.Can(Write) { // else the bus refuses
		turn := &s.creating[maphash.String(s.seed, p.Tenant)%uint64(len(s.creating))]
		turn.Lock()
		defer turn.Unlock()
		if err := s.room(ctx, p.Tenant, c.Length); err != nil {
			return nil, err
		}
	}
	return cqrs.Send(ctx, s.bus, c)
}

// room returns why the tenant may not upload so much more, nil where it may. Of
// the number counts whatever is remembered: each is a record that is kept.
func (s *Service) room(ctx context.Context, tenant string, length int64) error {
	if length < 0 {
		length = s.cfg.MaxSize
	}
	held, n := length, 0
	for u, err := range Uploads.All(ctx, s.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Upload]{}) {
		if err != nil {
			return err
		}
		if s.store.Now().Before(u.Keep) {
			held, n = held+u.Reserved(s.cfg.MaxSize), n+1
		}
	}
	if held <= s.cfg.Quota && n < s.cfg.MaxUploads {
		return nil
	}
	s.metrics.ended("over_quota")
	return fault.New(fault.Exhausted, "the tenant would have %d uploads of %d bytes, of %d and %d that it may: delete some, or wait until they are forgotten", n+1, held, s.cfg.MaxUploads, s.cfg.Quota).
		WithCode("upload_quota").WithRetryAfter(time.Minute)
}

// Delete drops an upload and its content. Who appends to it is told that it is gone.
func (s *Service) Delete(ctx context.Context, id ID) error {
	u, err := cqrs.Send(ctx, s.bus, Delete{ID: id})
	if err != nil {
		return err
	}
	s.metrics.ended("deleted")
	s.drop(context.WithoutCancel(ctx), u)
	return nil
}
