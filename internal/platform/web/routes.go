package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/web/limit"
)

// Public is the permission of a route that needs no credential. It is never a
// default: a route without a permission keeps the server from starting.
const Public access.Permission = "public"

// Route is a row of the table of routes.
type Route struct {
	Method     string
	Path       string // in the router's form, such as /v1/jobs/:id
	Permission access.Permission
}

// Routes is the one table of a server's routes, and the gate before them: each
// has a permission, which its requests need, or is Public. A server with such a
// table refuses to start when it has a route that is not in it.
//
// Rows are added while the server is built, not later.
type Routes struct {
	// Refused is told of every request that is turned away: with
	// fault.Unauthenticated, where the context has no principal, or with
	// PermissionDenied, where it has one. Nil tells nobody. Set it before the
	// first request.
	Refused func(ctx context.Context, route Route, err error)

	authenticate Authenticate
	limits       *limit.Limits
	rows         map[routeKey]access.Permission
	errs         []error
}

// NewRoutes returns an empty table. Requests are authenticated by the function
// and held to the limits; nil limits nothing.
func NewRoutes(authenticate Authenticate, limits *limit.Limits) *Routes {
	t := &Routes{authenticate: authenticate, limits: limits, rows: map[routeKey]access.Permission{}}
	if authenticate == nil {
		t.Refuse(fault.New(fault.Invalid, "web routes: no Authenticate: where everything is allowed, give one that says so"))
	}
	return t
}

// All returns the table, ordered by path and method.
func (t *Routes) All() []Route {
	all := make([]Route, 0, len(t.rows))
	for key, permission := range t.rows {
		all = append(all, Route{key.method, key.path, permission})
	}
	slices.SortFunc(all, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return all
}

// Declare adds a row for a route whose handler calls Enter itself.
func (t *Routes) Declare(method, path string, permission access.Permission) {
	key := routeKey{method, path}
	if permission == "" {
		t.Refuse(fault.New(fault.Invalid, "route %s %s has no permission: name one, or web.Public", method, path))
	}
	if _, ok := t.rows[key]; ok {
		t.Refuse(fault.New(fault.Invalid, "route %s %s is registered twice: the second would replace the first", method, path))
	}
	t.rows[key] = permission
}

// Refuse keeps the server from starting, with the error as the reason.
func (t *Routes) Refuse(err error) { t.errs = append(t.errs, err) }

// Enter decides whether a request may use a route, and returns the context to
// serve it with. It sets what the answer must say about that: the challenge of a
// 401 or 403 (RFC 6750, 3) and, where tell is set or the quota is used up, the
// quotas.
func (t *Routes) Enter(r *http.Request, h http.Header, route Route, tell bool) (context.Context, error) {
	if route.Permission == Public {
		return r.Context(), nil
	}
	ctx, err := t.enter(r, h, route.Permission, tell)
	if err == nil {
		return ctx, nil
	}
	if challenge := identity.Challenge(err); challenge != "" {
		h["Www-Authenticate"] = []string{challenge}
	}
	if t.Refused != nil && (fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.PermissionDenied)) {
		t.Refused(ctx, route, err)
	}
	return nil, err
}

// enter returns the context as far as it came, also with an error.
func (t *Routes) enter(r *http.Request, h http.Header, permission access.Permission, tell bool) (context.Context, error) {
	c, err := CredentialsOf(r)
	if err != nil {
		return r.Context(), err
	}
	ctx, err := t.authenticate(r.Context(), c)
	if err != nil {
		return r.Context(), err
	}
	if p, ok := access.From(ctx); ok && t.limits != nil {
		verdict := t.limits.Take(ctx, p.Tenant, p.Subject)
		err := verdict.Err()
		if tell || err != nil {
			verdict.SetHeaders(h)
		}
		if err != nil {
			return ctx, err
		}
	}
	return ctx, access.Check(ctx, permission)
}

// Router is what routes are added to: an *echo.Echo, an *echo.Group, or what
// Routes.On returns.
type Router interface {
	Add(method, path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) *echo.Route
}

// On returns a router that adds to r. Every route needs the permission that the
// function names for it; the function returns "" for routes that it does not
// know, which refuses them.
func (t *Routes) On(r Router, permission func(method, path string) access.Permission) Router {
	return &guardedRouter{routes: t, router: r, permission: permission}
}

// Always is the permission function for routes that all need the same one.
func Always(p access.Permission) func(method, path string) access.Permission {
	return func(string, string) access.Permission { return p }
}

type guardedRouter struct {
	routes     *Routes
	router     Router
	permission func(method, path string) access.Permission
}

// Add adds a route behind the gate. The gate comes before the middleware, too.
func (g *guardedRouter) Add(method, path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) *echo.Route {
	permission := g.permission(method, path)
	for _, m := range slices.Backward(middleware) {
		handler = m(handler)
	}
	if permission != Public {
		handler = g.routes.protect(permission, handler)
	}
	route := g.router.Add(method, path, handler)
	g.routes.Declare(method, route.Path, permission)
	return route
}

func (t *Routes) protect(permission access.Permission, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		ctx, err := t.Enter(r, c.Response().Header(), Route{r.Method, c.Path(), permission}, false)
		if err != nil {
			return err
		}
		if ctx != r.Context() {
			c.SetRequest(r.WithContext(ctx))
		}
		return next(c)
	}
}

// check returns what is wrong with the table, and with routes that are not in it.
func (t *Routes) check(registered []*echo.Route) error {
	errs := slices.Clone(t.errs)
	for _, r := range registered {
		if _, ok := t.rows[routeKey{r.Method, r.Path}]; !ok {
			errs = append(errs, fault.New(fault.Invalid, "route %s %s is not in the table of routes: add it through web.Routes.On", r.Method, r.Path))
		}
	}
	return errors.Join(errs...)
}
