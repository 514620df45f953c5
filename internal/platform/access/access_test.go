package access

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

const (
	readKeys    Permission = "api_keys:read"
	writeKeys   Permission = "api_keys:write"
	readJobs    Permission = "jobs:read"
	runJobs     Permission = "jobs:run"
	readTenants Permission = "tenants:read"
)

func testCatalog(t testing.TB) *Catalog {
	t.Helper()
	c, err := NewCatalog(
		Declaration{Permission: readKeys, Roles: []string{Viewer, Auditor}},
		Declaration{Permission: writeKeys},
		Declaration{Permission: readJobs, Roles: []string{Viewer, Operator}},
		Declaration{Permission: runJobs, Roles: []string{Operator}},
		Declaration{Permission: readTenants, Platform: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testRoles(t testing.TB, custom ...Role) *Roles {
	t.Helper()
	r, err := NewRoles(testCatalog(t), custom...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRolesHoldWhatIsDeclared(t *testing.T) {
	r := testRoles(t,
		Role{Name: "reader", Grants: []string{"*:read"}},
		Role{Name: "job_master", Grants: []string{"jobs:*", "api_keys:read"}},
		Role{Name: "lender", Grants: []string{"*:*", "tenants:read"}},
		Role{Name: "idle"},
	)
	for role, want := range map[string][]Permission{
		Viewer:        {readKeys, readJobs},
		Operator:      {readJobs, runJobs},
		MLEngineer:    nil,
		Auditor:       {readKeys},
		Admin:         {readKeys, writeKeys, readJobs, runJobs},
		PlatformAdmin: {readKeys, writeKeys, readJobs, runJobs, readTenants},
		"reader":      {readKeys, readJobs}, // a wildcard stops at the platform's permissions
		"job_master":  {readKeys, readJobs, runJobs},
		"lender":      {readKeys, writeKeys, readJobs, runJobs, readTenants},
		"idle":        nil,
		"no_such":     nil,
	} {
		if got := r.Granted([]string{role}).List(); !slices.Equal(got, want) {
			t.Errorf("%s holds %v, expected %v", role, got, want)
		}
	}
	if got := r.Platform().List(); !slices.Equal(got, []Permission{readTenants}) {
		t.Errorf("the platform's permissions are %v", got)
	}
	if len(r.Names()) != len(builtIn)+4 {
		t.Errorf("roles: %v", r.Names())
	}
}

func TestWrongDeclarationsAreRefused(t *testing.T) {
	for code, declared := range map[string][]Declaration{
		"permission_malformed":      {{Permission: "jobs"}},
		"permission_declared_twice": {{Permission: readJobs}, {Permission: readJobs}},
		"role_unknown":              {{Permission: readJobs, Roles: []string{"boss"}}},
	} {
		if _, err := NewCatalog(declared...); fault.CodeOf(err) != code {
			t.Errorf("%v: %v, expected code %s", declared, err, code)
		}
	}
	for _, malformed := range []Permission{"", ":", "jobs:", ":read", "*:read", "jobs:*", "Jobs:read", "jobs:read:all", "jobs:read\n", "9:read"} {
		if _, err := NewCatalog(Declaration{Permission: malformed}); !fault.Is(err, fault.Invalid) {
			t.Errorf("permission %q was declared: %v", malformed, err)
		}
	}
}

func TestWrongRolesAreRefused(t *testing.T) {
	c := testCatalog(t)
	for code, role := range map[string]Role{
		"role_malformed": {Name: "Boss"},
		"role_taken":     {Name: Admin},
		"grant_unknown":  {Name: "boss", Grants: []string{"jobs:stop"}},
	} {
		if _, err := NewRoles(c, role); fault.CodeOf(err) != code {
			t.Errorf("%v: %v, expected code %s", role, err, code)
		}
	}
	for _, grant := range []string{"", "*", ":", "jobs", "*:", "tenants:*", "j*:read"} {
		if _, err := NewRoles(c, Role{Name: "boss", Grants: []string{grant}}); fault.CodeOf(err) != "grant_unknown" {
			t.Errorf("%q was granted: %v", grant, err)
		}
	}
}

func TestUnknownPermissionsAreNoSet(t *testing.T) {
	c := testCatalog(t)
	if _, err := c.Set(readJobs, "jobs:raed"); fault.CodeOf(err) != "permission_unknown" {
		t.Errorf("a misspelt permission: %v", err)
	}
	if s, err := c.Set(readJobs, readKeys); err != nil || !s.Equal(SetOf(readKeys, readJobs)) {
		t.Errorf("%v, %v", s.List(), err)
	}
	if n := c.Everything().Len(); n != 5 || len(slices.Collect(c.All())) != 5 {
		t.Errorf("%d permissions of 5", n)
	}
}

func TestCheckDeniesByDefault(t *testing.T) {
	ctx := t.Context()
	other := &Principal{Tenant: "acme", Subject: "key_1", Permissions: SetOf(readJobs)}
	for name, c := range map[string]struct {
		ctx  context.Context
		kind fault.Kind
		code string
	}{
		"nobody":      {ctx, fault.Unauthenticated, "credential_missing"},
		"nil":         {With(ctx, nil), fault.Unauthenticated, "credential_missing"},
		"no rights":   {With(ctx, &Principal{Tenant: "acme"}), fault.PermissionDenied, "permission_missing"},
		"other right": {With(ctx, other), fault.PermissionDenied, "permission_missing"},
	} {
		err := Check(c.ctx, writeKeys)
		if !fault.Is(err, c.kind) || fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "acme") || strings.Contains(err.Error(), "key_1") {
			t.Errorf("%s: the message says who: %v", name, err)
		}
		if c.kind == fault.PermissionDenied && !strings.Contains(err.Error(), string(writeKeys)) {
			t.Errorf("%s: the message does not say what is needed: %v", name, err)
		}
	}
	if (*Principal)(nil).Can(readJobs) {
		t.Error("nobody may do something")
	}
	if err := Check(With(ctx, other), readJobs); err != nil {
		t.Error(err)
	}
}

func TestAnonymousMayDoEverythingInItsTenant(t *testing.T) {
	p := Anonymous(testCatalog(t).Everything())
	ctx := With(t.Context(), p)
	for d := range testCatalog(t).All() {
		if err := Check(ctx, d.Permission); err != nil {
			t.Error(err)
		}
	}
	if p.Tenant != DefaultTenant || p.Expired(time.Unix(1<<40, 0)) {
		t.Errorf("%+v", p)
	}
	if got, ok := From(ctx); !ok || got != p {
		t.Errorf("carried %v", got)
	}
}

// slotted is a context with a slot.
type slotted struct {
	context.Context
	slot Slot
}

func (s *slotted) Slot() *Slot { return &s.slot }

func (s *slotted) Value(key any) any {
	if p, ok := s.slot.Value(key); ok {
		return p
	}
	return s.Context.Value(key)
}

func TestEnterFillsASlotOnce(t *testing.T) {
	type other struct{}
	outer := &Principal{Tenant: "outer"}
	c := &slotted{Context: context.WithValue(With(t.Context(), outer), other{}, 1)}
	if p, _ := From(c); p != outer || c.Value(other{}) != 1 {
		t.Errorf("an empty slot hides what is behind it: %v", p)
	}
	first, second := &Principal{Tenant: "first"}, &Principal{Tenant: "second"}
	if ctx := Enter(c, first); ctx != context.Context(c) {
		t.Errorf("another context: %v", ctx)
	}
	again := Enter(c, second)
	if p, _ := From(c); p != first || c.Value(other{}) != 1 {
		t.Errorf("the slot holds %v after another has entered", p)
	}
	if p, _ := From(again); p != second {
		t.Errorf("the second to enter is %v", p)
	}
	if p, _ := From(Enter(t.Context(), second)); p != second {
		t.Errorf("without a slot: %v", p)
	}
}

func TestExpiry(t *testing.T) {
	end := time.Unix(1000, 0)
	p := &Principal{Expires: end}
	if p.Expired(end.Add(-1)) || !p.Expired(end) || !p.Expired(end.Add(time.Hour)) {
		t.Error("a credential ends at the instant that it names")
	}
}

func TestTenantIDs(t *testing.T) {
	for _, good := range []string{"a", "default", "0-x_y", strings.Repeat("a", 64)} {
		if err := CheckTenant(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "A", "-a", "_a", "a b", "a/b", "a.b", "a\n", "ä", "a\x00", "*", ">", strings.Repeat("a", 65)} {
		if CheckTenant(bad) == nil {
			t.Errorf("%q became a tenant", bad)
		}
	}
}

// What everyone may do no role has to grant, and no scope takes away.
func TestEveryonesPermissions(t *testing.T) {
	const self Permission = "self:use"
	c, err := NewCatalog(Declaration{Permission: self, Everyone: true}, Declaration{Permission: readJobs, Roles: []string{Viewer}}, Declaration{Permission: readTenants, Platform: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRoles(c, Role{Name: "idle"})
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]Set{
		"no role": r.Granted(nil), "unknown role": r.Granted([]string{"nobody"}), "unknown roles": r.Granted([]string{"nobody", "none"}), "a role of one's own": r.Granted([]string{"idle"}),
		"scoped": r.Effective([]string{Viewer}, []Permission{"none:such"}), "everyone": r.Everyone(),
	} {
		if !got.Equal(SetOf(self)) {
			t.Errorf("%s: %v", name, got.List())
		}
	}
	if got := r.Effective([]string{Viewer}, []Permission{readJobs}); !got.Equal(SetOf(self, readJobs)) {
		t.Errorf("scoped: %v", got.List())
	}
}
