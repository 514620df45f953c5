package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/web/limit"
)

// chatDesc is a service with a stream that answers each message with one.
var chatDesc = grpc.ServiceDesc{
	ServiceName: "test.Chat",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		for {
			in := new(healthpb.HealthCheckRequest)
			if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			srv.(func(context.Context, string))(stream.Context(), in.GetService())
			if err := stream.SendMsg(new(healthpb.HealthCheckResponse)); err != nil {
				return err
			}
		}
	}}},
}

const echoCall, chatTalk = "/test.Echo/Call", "/test.Chat/Talk"

// table has a row for every method that the tests' servers have.
func table(echo, chat access.Permission) map[string]access.Permission {
	m := map[string]access.Permission{echoCall: echo, chatTalk: chat}
	for _, name := range []string{"Check", "List", "Watch"} {
		m["/grpc.health.v1.Health/"+name] = Public
	}
	return m
}

// known are the principals of the bearer tokens that byToken takes.
var known = map[string]*access.Principal{
	"reader": {Tenant: "t", Subject: "reader", Permissions: access.SetOf("chat:read")},
	"writer": {Tenant: "t", Subject: "writer", Permissions: access.SetOf("chat:read", "chat:write")},
	"ending": {Tenant: "t", Subject: "ending", Permissions: access.SetOf("chat:read"), Expires: time.Unix(1000, 0)},
}

func byToken(_ context.Context, c identity.Credentials) (*access.Principal, error) {
	text := strings.Join(append(c.APIKey, c.Authorization...), "")
	if text == "" {
		return nil, access.ErrNoCredential
	}
	if p := known[strings.TrimPrefix(text, "Bearer ")]; p != nil {
		return p, nil
	}
	return nil, fault.New(fault.Unauthenticated, "the credential is not valid").WithCode("credential_invalid")
}

// gated runs a server of the two services behind a gate.
type gated struct {
	conn    *grpc.ClientConn
	mu      sync.Mutex
	served  []string // what the services saw: subject, request id
	refused []string
	now     time.Time
}

func (g *gated) serve(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	subject := "nobody"
	if p, ok := access.From(ctx); ok {
		subject = p.Subject
	}
	g.served = append(g.served, subject+" "+telemetry.RequestID(ctx))
}

func (g *gated) taken() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.served = nil }()
	return g.served
}

func (g *gated) at() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gated) register(r grpc.ServiceRegistrar) {
	r.RegisterService(&echoDesc, func(ctx context.Context, _ *healthpb.HealthCheckRequest) error { g.serve(ctx); return nil })
	r.RegisterService(&chatDesc, func(ctx context.Context, _ string) { g.serve(ctx) })
}

func startGated(t *testing.T, limits *limit.Limits) *gated {
	t.Helper()
	g := &gated{now: time.Unix(500, 0)}
	s, err := New(Config{MaxMessageBytes: 1 << 10, Gate: &Gate{
		Authenticate: byToken, Methods: table("chat:write", "chat:read"), Limits: limits, Now: g.at,
		Refused: func(ctx context.Context, method string, err error) {
			p, ok := access.From(ctx)
			g.mu.Lock()
			defer g.mu.Unlock()
			if ok {
				method = p.Subject + " " + method
			}
			g.refused = append(g.refused, method+" "+fault.CodeOf(err))
		},
	}}, g.register)
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 16)
	if g.conn, err = grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx, listener) }()
	t.Cleanup(func() { _ = g.conn.Close(); cancel(); <-stopped })
	return g
}

func (g *gated) call(ctx context.Context, message string) error {
	return g.conn.Invoke(ctx, echoCall, &healthpb.HealthCheckRequest{Service: message}, new(healthpb.HealthCheckResponse))
}

func (g *gated) talk(ctx context.Context) (grpc.ClientStream, error) {
	return g.conn.NewStream(ctx, &chatDesc.Streams[0], chatTalk)
}

// say sends one message on a stream and waits for its answer.
func say(stream grpc.ClientStream) error {
	if err := stream.SendMsg(new(healthpb.HealthCheckRequest)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.RecvMsg(new(healthpb.HealthCheckResponse))
}

func with(t *testing.T, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), pairs...)
}

func TestGate(t *testing.T) {
	g := startGated(t, nil)
	for _, tc := range []struct {
		pairs           []string
		unary, stream   codes.Code
		reason, reason2 string
	}{
		{nil, codes.Unauthenticated, codes.Unauthenticated, "credential_missing", "credential_missing"},
		{[]string{"authorization", "Bearer wrong"}, codes.Unauthenticated, codes.Unauthenticated, "credential_invalid", "credential_invalid"},
		{[]string{"authorization", "Bearer writer", "x-api-key", "writer"}, codes.Unauthenticated, codes.Unauthenticated, "credential_ambiguous", "credential_ambiguous"},
		{[]string{"authorization", "Bearer writer", "authorization", "Bearer writer"}, codes.Unauthenticated, codes.Unauthenticated, "credential_ambiguous", "credential_ambiguous"},
		{[]string{"authorization", "Bearer reader"}, codes.PermissionDenied, codes.OK, "permission_missing", ""},
		{[]string{"authorization", "Bearer writer"}, codes.OK, codes.OK, "", ""},
		{[]string{"x-api-key", "writer"}, codes.OK, codes.OK, "", ""},
	} {
		err := g.call(with(t, tc.pairs...), "")
		if status.Code(err) != tc.unary || reasonOf(err) != tc.reason {
			t.Errorf("%q: the call got %v (%s), want %s (%s)", tc.pairs, err, reasonOf(err), tc.unary, tc.reason)
		}
		stream, err := g.talk(with(t, tc.pairs...))
		if err == nil {
			err = say(stream)
		}
		if status.Code(err) != tc.stream || reasonOf(err) != tc.reason2 {
			t.Errorf("%q: the stream got %v (%s), want %s (%s)", tc.pairs, err, reasonOf(err), tc.stream, tc.reason2)
		}
	}
	if _, err := healthpb.NewHealthClient(g.conn).Check(t.Context(), new(healthpb.HealthCheckRequest)); err != nil {
		t.Errorf("a public method: %v", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.served) != 5 {
		t.Errorf("served %q", g.served)
	}
	if len(g.refused) != 9 || !slices.Contains(g.refused, "reader /test.Echo/Call permission_missing") || !slices.Contains(g.refused, "/test.Chat/Talk credential_missing") {
		t.Errorf("refused %q", g.refused)
	}
}

// reasonOf returns the reason of an error's ErrorInfo.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// A message of somebody who may not call is not received: one that is too large
// for the server is refused for the missing credential, not for its size.
func TestGateComesBeforeTheMessage(t *testing.T) {
	g := startGated(t, nil)
	large := strings.Repeat("x", 2<<10)
	if err := g.call(t.Context(), large); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a credential: %v", err)
	}
	if err := g.call(with(t, "authorization", "Bearer writer"), large); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with one: %v", err)
	}
}

func TestServicesSeeThePrincipalAndTheRequest(t *testing.T) {
	g := startGated(t, nil)
	ctx := with(t, "x-api-key", "writer", "x-request-id", "req-7")
	if err := g.call(ctx, ""); err != nil {
		t.Fatal(err)
	}
	stream, err := g.talk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := say(stream); err != nil {
		t.Fatal(err)
	}
	if got := g.taken(); !slices.Equal(got, []string{"writer req-7", "writer req-7"}) {
		t.Errorf("the services saw %q", got)
	}
}

func TestStreamsEndWithTheirCredential(t *testing.T) {
	g := startGated(t, nil)
	stream, err := g.talk(with(t, "authorization", "Bearer ending"))
	if err != nil {
		t.Fatal(err)
	}
	if err := say(stream); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.now = time.Unix(1000, 0)
	g.mu.Unlock()
	if err := say(stream); status.Code(err) != codes.Unauthenticated || reasonOf(err) != "credential_expired" {
		t.Errorf("after its end: %v", err)
	}
	if got := g.taken(); len(got) != 1 {
		t.Errorf("served %q", got)
	}
}

// A stream that only answers ends with its credential as well.
func TestAnswersEndWithTheCredential(t *testing.T) {
	now := time.Unix(0, 0)
	s := &countedStream{admitted: pass{&Gate{Now: func() time.Time { return now }}, known["ending"]}}
	now = time.Unix(1000, 0)
	if err := s.SendMsg(nil); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v", err)
	}
}

// So does one whose credential was revoked.
func TestAnswersEndWhenTheCredentialIsRevoked(t *testing.T) {
	var said error
	p := &access.Principal{Recheck: func(context.Context) error { return said }}
	s := &countedStream{admitted: pass{&Gate{Now: time.Now}, p}}
	if err := s.admitted.holds(t.Context()); err != nil {
		t.Error(err)
	}
	said = fault.New(fault.Unauthenticated, "revoked").WithCode("api_key_revoked")
	if err := s.SendMsg(nil); status.Code(err) != codes.Unauthenticated || reasonOf(err) != "credential_invalid" {
		t.Errorf("got %v", err)
	}
}

func TestGateHoldsToQuotas(t *testing.T) {
	limits, err := limit.New(limit.NewMemory(time.Now, 100), limit.Config{Key: limit.Policy{Quota: 3, Window: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	g := startGated(t, limits)
	ctx := with(t, "authorization", "Bearer writer")
	if err := g.call(ctx, ""); err != nil {
		t.Fatal(err)
	}
	stream, err := g.talk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first message is the call's
		if err := say(stream); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{"a message": say(stream), "a call": g.call(ctx, "")} {
		st := status.Convert(err)
		var wait time.Duration
		for _, d := range st.Details() {
			if retry, ok := d.(*errdetails.RetryInfo); ok {
				wait = retry.GetRetryDelay().AsDuration()
			}
		}
		if st.Code() != codes.ResourceExhausted || wait < 19*time.Minute || reasonOf(err) != "rate_limited" {
			t.Errorf("%s beyond the quota got %v, retry after %s", name, err, wait)
		}
	}
	if err := g.call(with(t, "authorization", "Bearer reader"), ""); status.Code(err) != codes.PermissionDenied {
		t.Errorf("somebody else: %v", err)
	}
}

func TestMethodsNeedARow(t *testing.T) {
	g := &gated{}
	for name, tc := range map[string]struct {
		gate Gate
		want string
	}{
		"no row":          {Gate{Authenticate: byToken, Methods: table("", "chat:read")}, "/test.Echo/Call has no permission"},
		"no such method":  {Gate{Authenticate: byToken, Methods: map[string]access.Permission{"/test.Echo/Cal": Public}}, "/test.Echo/Cal has a permission, but does not exist"},
		"no authenticate": {Gate{Methods: table(Public, Public)}, "without Authenticate"},
	} {
		if s, err := New(Config{Gate: &tc.gate}, g.register); s != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{Reflection: true, Gate: &Gate{Authenticate: byToken, Methods: table(Public, Public)}}, g.register); err == nil || !strings.Contains(err.Error(), "ServerReflectionInfo has no permission") {
		t.Errorf("reflection is not public by itself: %v", err)
	}
}

// A service that is registered late is denied to everybody.
func TestLateMethodsAreDenied(t *testing.T) {
	gate, err := (&Gate{Authenticate: byToken}).resolve()
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-api-key", "writer"))
	if _, _, err := gate.enter(ctx, "/late.Service/Method"); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesAreShown(t *testing.T) {
	chains := [][]*x509.Certificate{{{}}}
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: chains}}})
	c, err := credentialsOf(ctx)
	if err != nil || len(c.Peer) != 1 || c.Peer[0][0] != chains[0][0] {
		t.Errorf("got %+v, %v", c, err)
	}
}

func BenchmarkEnter(b *testing.B) {
	md := metadata.Pairs(":authority", "localhost", "content-type", "application/grpc", "user-agent", "bench", "authorization", "Bearer writer")
	ctx := metadata.NewIncomingContext(context.Background(), md)
	everybody := identity.Anonymous(access.SetOf("chat:write"))
	for name, authenticate := range map[string]func(context.Context, identity.Credentials) (*access.Principal, error){"token": byToken, "off": everybody.Authenticate} {
		gate, err := (&Gate{Authenticate: authenticate, Methods: table("chat:write", "chat:read")}).resolve()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := gate.enter(ctx, echoCall); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
