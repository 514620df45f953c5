package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/inference/oip/oippb"
	"sluice/internal/platform/access"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/jwt"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/resilience"
	"sluice/internal/platform/rpc"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/limit"
)

// The permissions of models.
const (
	modelsRead    access.Permission = "models:read"
	modelsPredict access.Permission = "models:predict"
	modelsWrite   access.Permission = "models:write"
)

// modelPermissions declares them. The repository of models belongs to the whole
// server, but loading is what machine learning engineers do.
func modelPermissions() []access.Declaration {
	return []access.Declaration{
		{Permission: modelsRead, About: "see which models are served, and their statistics", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: modelsPredict, About: "have models answer", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: modelsWrite, About: "load and unload models", Roles: []string{access.Operator, access.MLEngineer}},
	}
}

// oipPermission returns what a route of the Open Inference Protocol needs.
// Probes are public: balancers have no credential.
func oipPermission(method, path string) access.Permission {
	switch {
	case strings.HasPrefix(path, "/v2/health/"):
		return web.Public
	case strings.HasSuffix(path, "/infer"), strings.HasSuffix(path, "/generate"), strings.HasSuffix(path, "/generate_stream"):
		return modelsPredict
	case strings.HasSuffix(path, "/load"), strings.HasSuffix(path, "/unload"), method == http.MethodPost && !strings.HasSuffix(path, "/index"):
		return modelsWrite
	default:
		return modelsRead
	}
}

// grpcPermissions has what each method of the gRPC server needs: as the routes
// that do the same. Descriptors name no model, but are no business of strangers.
func grpcPermissions() map[string]access.Permission {
	all := map[string]access.Permission{
		"/grpc.health.v1.Health/Check": rpc.Public, "/grpc.health.v1.Health/List": rpc.Public, "/grpc.health.v1.Health/Watch": rpc.Public,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      modelsRead,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": modelsRead,
		feedpb.Feeds_Subscribe_FullMethodName:                            eventsRead,
	}
	for permission, methods := range map[access.Permission][]string{
		rpc.Public:    {"ServerLive", "ServerReady"},
		modelsPredict: {"ModelInfer", "ModelStreamInfer"},
		modelsWrite: {
			"RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings",
			"SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister",
		},
		modelsRead: {
			"ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex",
			"SystemSharedMemoryStatus", "CudaSharedMemoryStatus",
		},
	} {
		for _, m := range methods {
			all["/"+oippb.GRPCInferenceService_ServiceDesc.ServiceName+"/"+m] = permission
		}
	}
	return all
}

// maxKeySet bounds the key set of an issuer, in bytes.
const maxKeySet = 256 << 10

func newTokens(c config.Auth, n *node.Node, metrics prometheus.Registerer) (identity.Verifier, error) {
	policy, err := resilience.New("jwks", resilience.Config{Metrics: metrics})
	if err != nil {
		return nil, err
	}
	var source jwt.Source
	if strings.HasPrefix(c.JWTKeys, "https:") || strings.HasPrefix(c.JWTKeys, "http:") {
		source, err = jwt.NewRemote(c.JWTKeys, resilience.NewHTTPClient(policy, resilience.HTTPConfig{MaxResponse: maxKeySet}), time.Now, jwt.RemoteConfig{})
	} else {
		source, err = jwt.NewStaticFile(c.JWTKeys)
	}
	if err != nil {
		return nil, err
	}
	return jwt.New(n.Roles, time.Now, jwt.Config{Pseudonym: secret.Of(string(n.Pseudonym()))}, jwt.Issuer{
		Name: c.JWTIssuer, Audience: c.JWTAudience, Keys: source, Algorithms: c.JWTAlgorithms, Tenant: c.JWTTenant,
		Claims: jwt.Claims{Tenant: c.JWTTenantClaim, Roles: c.JWTRolesClaim},
	})
}

// newLimits returns the quotas, which are for callers that are told apart.
func newLimits(cfg config.Config) (*limit.Limits, error) {
	if !cfg.Authenticated() {
		return nil, nil //nolint:nilnil // nil limits nothing
	}
	policy := func(name string, rate, burst int) limit.Policy {
		if rate == 0 {
			return limit.Policy{}
		}
		// Windows are whole seconds: at once there are as many as rate gives in those
		// that burst has, and in one at least.
		seconds := max(1, burst/rate)
		return limit.Policy{Name: name, Quota: int64(rate) * int64(seconds), Window: time.Duration(seconds) * time.Second}
	}
	l := cfg.Limit
	return limit.New(limit.NewMemory(time.Now, 100_000), limit.Config{
		Tenant: policy("tenant", l.TenantRate, l.TenantBurst), Key: policy("key", l.KeyRate, l.KeyBurst),
	})
}

// bootstrap makes the first key where authentication is required and there was
// no start before. It returns the file that has it.
func bootstrap(ctx context.Context, cfg config.Config, n *node.Node) (string, error) {
	if !cfg.Authenticated() {
		return "", nil
	}
	file := cfg.Auth.BootstrapFile
	if file == "" {
		file = filepath.Join(cfg.DataDir, "bootstrap.key")
	}
	_, made, err := identity.Bootstrap{
		Count: func(ctx context.Context) (int, error) { return n.Directory.Count(ctx, access.DefaultTenant) },
		Create: func(ctx context.Context, key apikey.Key) error {
			return n.Directory.CreateFirst(ctx, access.DefaultTenant, access.PlatformAdmin, key)
		},
		Random: rand.Reader, File: file,
	}.Run(ctx)
	if err != nil {
		return "", fault.Wrap(fault.Of(err).Kind, err, "the first API key could not be made: %s", fault.Of(err).Message)
	}
	if !made {
		return "", nil
	}
	return file, nil
}
