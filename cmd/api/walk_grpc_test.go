package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/rpc"
)

// publicMethods are all gRPC methods that need no credential.
var publicMethods = []string{
	"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch",
	"/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
}

// invoke calls any method, of any kind, with an empty message.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string) *status.Status {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return status.Convert(err)
	}
	_ = stream.SendMsg(new(emptypb.Empty)) // RecvMsg has the reason
	_ = stream.CloseSend()
	return status.Convert(stream.RecvMsg(new(emptypb.Empty)))
}

func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func (w *world) walkMethods(t *testing.T) {
	conn := w.dial(t)
	methods, table := w.grpc.server.Methods(), grpcPermissions()
	if len(methods) < 25 {
		t.Fatalf("%d methods: is that all of them?", len(methods))
	}
	for _, method := range methods {
		if public := table[method] == rpc.Public; public != slices.Contains(publicMethods, method) {
			t.Errorf("%s: public %t: if that is meant, change publicMethods", method, public)
		}
		if table[method] == rpc.Public {
			continue
		}
		if err := (audit.Entry{ID: "evt_1", Action: method, Outcome: audit.Denied}).Validate(); err != nil {
			t.Errorf("%s: a denial cannot be audited as it is: %v", method, err)
		}
		w.walkMethod(t, conn, method, table[method])
	}
}

func (w *world) walkMethod(t *testing.T, conn *grpc.ClientConn, method string, permission access.Permission) {
	t.Helper()
	if st := invoke(t.Context(), conn, method); st.Code() != codes.Unauthenticated || reasonOf(st) != "credential_missing" {
		t.Errorf("%s without a credential: %v", method, st)
	}
	told := map[string]string{}
	for name, header := range w.bad {
		md := metadata.MD{}
		for key, values := range header {
			md.Append(strings.ToLower(key), values...)
		}
		st := invoke(metadata.NewOutgoingContext(t.Context(), md), conn, method)
		if st.Code() != codes.Unauthenticated || reasonOf(st) == "" {
			t.Errorf("%s with a bad credential (%s): %v", method, name, st)
		}
		told[name] = st.String() + reasonOf(st)
	}
	for _, name := range alike {
		if told[name] != told["unknown"] {
			t.Errorf("%s tells a key that is %s from one that never was: %s", method, name, told[name])
		}
	}
	for _, key := range w.keys {
		st := invoke(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key.secret), conn, method)
		allowed := st.Code() != codes.Unauthenticated && st.Code() != codes.PermissionDenied
		if allowed != key.allowed.Has(permission) || !allowed && (st.Code() != codes.PermissionDenied || reasonOf(st) != "permission_missing") {
			t.Errorf("%s with %s, which needs %s: %v", method, key.name, permission, st)
		}
	}
}

// walkAudit finds the denials of both edges in the audit log, with the requests
// that they were. Its key was denied nothing yet: who is denied all the time gets
// no entry for each.
func (w *world) walkAudit(t *testing.T) {
	conn := w.dial(t)
	_, secret := w.issue(t, w.acme, access.Auditor)
	w.send(t, "POST", "/v1/api-keys", `{}`, secret, "X-Request-Id", "walk-http")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret, "x-request-id", "walk-grpc")
	const load = "/inference.GRPCInferenceService/RepositoryModelLoad"
	invoke(ctx, conn, load)
	for action, request := range map[string]string{"http:POST:/v1/api-keys": "walk-http", load: "walk-grpc"} {
		w.awaitOne(t, w.acme, "/v1/audit-entries", "action:eq:"+action, func(e map[string]any) bool {
			return e["request_id"] == request && e["outcome"] == "denied" && e["code"] == "permission_missing"
		})
	}
}

func (w *world) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(w.grpc.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
