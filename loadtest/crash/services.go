package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/s3blob"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/stores"
)

// outside is what a bed has on servers that others use, too: a keyspace, a folder
// of a bucket, both behind proxies.
type outside struct {
	cql, s3   *proxy
	keyspace  string
	hosts     []string
	bucket    string // address of the folder, without the proxy
	throughS3 string
	broker    *broker
}

func newOutside(s *settings) (*outside, error) {
	cqlURL, s3URL := os.Getenv("SLUICE_TEST_CQL_URL"), os.Getenv("SLUICE_TEST_S3_URL")
	if cqlURL == "" || s3URL == "" {
		return nil, errors.New("SLUICE_TEST_CQL_URL and SLUICE_TEST_S3_URL are not set: start the servers with `make services`, and set what it prints")
	}
	o := &outside{keyspace: fmt.Sprintf("crash_%x_%x", s.seed, time.Now().Unix())}
	u, err := url.Parse(cqlURL)
	if err != nil {
		return nil, err
	}
	o.hosts = []string{u.Host}
	if o.cql, err = newProxy(u.Host); err != nil {
		return nil, err
	}
	if u, err = url.Parse(s3URL); err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("prefix", o.keyspace)
	u.RawQuery = q.Encode()
	o.bucket = u.String()
	if o.s3, err = newProxy(u.Host); err != nil {
		return nil, err
	}
	u.Host = o.s3.address
	o.throughS3 = u.String()
	o.broker, err = newBroker(filepath.Join(s.dir, "services"))
	return o, err
}

func (o *outside) close(ctx context.Context) error {
	o.broker.stop()
	return errors.Join(o.cql.cut(), o.s3.cut(), o.dropKeyspace(ctx))
}

func (o *outside) session(keyspace string) (*gocql.Session, error) {
	c := gocql.NewCluster(o.hosts...)
	c.Keyspace, c.Timeout, c.ConnectTimeout = keyspace, 20*time.Second, 20*time.Second
	c.Consistency, c.SerialConsistency = gocql.One, gocql.Serial
	return c.CreateSession()
}

func (o *outside) dropKeyspace(ctx context.Context) error {
	s, err := o.session("")
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Query("DROP KEYSPACE IF EXISTS " + o.keyspace).WithContext(ctx).Exec()
}

// services cuts the store and the objects off, one after the other, and has them
// back.
func services(ctx context.Context, s *settings) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	o, err := newOutside(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close(context.WithoutCancel(ctx))) }()
	b, err := newBed(s, "services", "", "SLUICE_DATABASE_URL=scylla://"+o.cql.address+"/"+o.keyspace+"?replication=1&timeout=3s",
		"SLUICE_BLOB_URL="+o.throughS3, "SLUICE_NATS_URL="+o.broker.url())
	if err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.api.kill()) }()
	if err := b.begin(ctx, 6, 20*time.Millisecond); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	var more []string
	outage := pick(s, 6*time.Second, 20*time.Second)
	for _, part := range []struct {
		proxy *proxy
		name  string
		goes  bool // commands go on without it
	}{{o.s3, "objects", true}, {o.cql, "store", false}} {
		found, err := b.cutOff(ctx, part.proxy, part.name, part.goes, outage)
		if err != nil {
			return err
		}
		more = append(more, found...)
	}
	if err := b.finish(); err != nil {
		return err
	}
	if err := b.drained(ctx, 2*time.Minute, func(ctx context.Context) (int, error) {
		e := newEvidence()
		if err := o.broker.read(ctx, e); err != nil {
			return 0, err
		}
		return len(e.waiting), nil
	}); err != nil {
		more = append(more, err.Error())
	}
	if err := b.api.stop(); err != nil {
		more = append(more, err.Error())
	}
	e, err := o.evidence(ctx, b)
	if err != nil {
		return err
	}
	return b.verdict(e, more...)
}

// cutOff cuts a server off for a while. What needs it is refused with an error
// that says so, and works again without a restart.
func (b *bed) cutOff(ctx context.Context, p *proxy, name string, goes bool, outage time.Duration) (problems []string, err error) {
	before, codesBefore := b.tally.snapshot()
	if err := p.cut(); err != nil {
		b.logf("cutting: %v", err)
	}
	time.Sleep(outage / 2)
	problems = b.onlyFails(ctx, name)
	time.Sleep(outage / 2)
	after, codes := b.tally.snapshot()
	if refused := fmt.Sprint(codes) != fmt.Sprint(codesBefore); refused == goes {
		problems = append(problems, fmt.Sprintf("without %s commands were refused: %t, expected %t; refusals %v", name, refused, !goes, codes))
	}
	if goes && after-before < int(outage.Seconds())*2 {
		problems = append(problems, fmt.Sprintf("without %s only %d requests were answered in %s", name, after-before, outage))
	}
	if err := p.heal(); err != nil {
		return nil, err
	}
	healed := time.Now()
	if _, err := b.recovers(ctx, name, 60*time.Second); err != nil {
		problems = append(problems, err.Error())
	}
	ready := time.Since(healed)
	for start, _ := b.tally.snapshot(); ; time.Sleep(20 * time.Millisecond) {
		if now, _ := b.tally.snapshot(); now > start+10 {
			break
		}
		if time.Since(healed) > 90*time.Second {
			return append(problems, "commands are still refused 90 s after "+name+" is back"), nil
		}
	}
	b.logf("%s cut off for %s: %d requests were answered; ready again after %.1f s, commands taken after %.1f s", name, outage, after-before, ready.Seconds(), time.Since(healed).Seconds())
	time.Sleep(3 * time.Second)
	return problems, nil
}

// evidence reads what the servers hold. Marks are left out: how they are kept
// there is the store's affair.
func (o *outside) evidence(ctx context.Context, b *bed) (*evidence, error) {
	e := newEvidence()
	if err := o.readCQL(ctx, e); err != nil {
		return nil, err
	}
	if err := o.broker.read(ctx, e); err != nil {
		return nil, err
	}
	folder := filepath.Join(b.settings.dir, b.name, "audit")
	if err := o.download(ctx, "audit/log/", folder); err != nil {
		return nil, err
	}
	var err error
	e.leaves, e.report, err = stores.Audit(ctx, filepath.Join(b.dir, "audit.pub"), os.DirFS(folder))
	return e, err
}

// readCQL reads the records with nothing but CQL.
func (o *outside) readCQL(ctx context.Context, e *evidence) error {
	s, err := o.session(o.keyspace)
	if err != nil {
		return err
	}
	defer s.Close()
	rows := s.Query("SELECT tenant, kind, id, version, sequence, deleted_at, doc FROM aggregates WHERE part = 'state' ALLOW FILTERING").WithContext(ctx).Consistency(gocql.Serial).Iter()
	var (
		key     repo.Key
		r       stored
		version *int64
		deleted *int64
		doc     []byte
	)
	for rows.Scan(&key.Tenant, &key.Kind, &key.ID, &version, &r.Sequence, &deleted, &doc) {
		if version == nil || *version == 0 {
			continue
		}
		r.Version, r.Deleted = *version, deleted != nil
		if err := e.add(key, r, doc); err != nil {
			return err
		}
		r = stored{}
	}
	return rows.Close()
}

// download copies a folder of the bucket, and removes it there.
func (o *outside) download(ctx context.Context, prefix, to string) error {
	c, err := s3blob.Parse(o.bucket)
	if err != nil {
		return err
	}
	bucket, err := s3blob.Open(ctx, c)
	if err != nil {
		return err
	}
	defer bucket.Close()
	for info, err := range bucket.List(ctx, strings.TrimSuffix(prefix, "/"), "") {
		if err != nil {
			return err
		}
		object, err := bucket.Get(ctx, info.Key, blob.GetOptions{})
		if err != nil {
			return err
		}
		data, err := io.ReadAll(object.Body)
		if err := errors.Join(err, object.Body.Close()); err != nil {
			return err
		}
		path := filepath.Join(to, filepath.FromSlash(strings.TrimPrefix(info.Key, prefix)))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(path, data, 0o600), bucket.Delete(ctx, info.Key)); err != nil {
			return err
		}
	}
	return nil
}
