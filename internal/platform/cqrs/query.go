package cqrs

import (
	"context"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/repo"
)

// Keyed is a query whose answers can be cached: equal keys have equal answers.
type Keyed interface{ CacheKey() string }

// Cached has the answers to a Keyed query kept for at most ttl, and forgotten
// as soon as this process changes an aggregate of one of these kinds in the same
// tenant; of what other processes change it learns by Forget, or when ttl is over.
// Answers are shared by all who may ask: nobody may change what they hold, and
// they must not depend on who asks.
func Cached(ttl time.Duration, kinds ...string) Option {
	return func(o *options) { o.ttl, o.kinds = ttl, kinds }
}

// HandleQuery registers the handler of a query. It needs the permission.
func HandleQuery[Q Query[R], R any](b *Bus, permission access.Permission, handler func(ctx context.Context, from repo.Reading, q Q) (R, error), opts ...Option) {
	var zero Q
	HandleQueryAs(b, zero.QueryName(), permission, handler, opts...)
}

// HandleQueryAs is HandleQuery for a type of queries with several names: the
// handler gets those of this name.
func HandleQueryAs[Q Query[R], R any](b *Bus, name string, permission access.Permission, handler func(ctx context.Context, from repo.Reading, q Q) (R, error), opts ...Option) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	tenant := tenantOf(o)
	r := &route[Q, R]{Route: Route{name, permission, false}}
	if o.ttl > 0 && !has[Keyed, Q](name) {
		panic("cqrs: " + r.Name + " is to be cached, but has no CacheKey")
	}
	r.run = b.around(r.Route, func(ctx context.Context, call *Call) (err error) {
		inv := call.payload.(*invocation[Q, R])
		scope := call.scope(tenant(call.Principal))
		if err := r.check(inv.input); err != nil {
			return err
		}
		if o.ttl == 0 {
			inv.result, err = handler(ctx, b.store.Read(scope), inv.input)
			return err
		}
		answer := func(ctx context.Context) (result R, err error) {
			// A panic is an error before it comes to the cache, where others wait.
			err = b.recovered(func(ctx context.Context, _ *Call) error {
				result, err = handler(ctx, b.store.Read(scope), inv.input)
				return err
			})(ctx, call)
			return result, err
		}
		key := b.cache.key(scope.Tenant, r.Name, any(inv.input).(Keyed).CacheKey(), o.kinds)
		inv.result, err = cached(ctx, b.cache, key, o.ttl, answer)
		return err
	})
	register(b, r)
}

// Ask has a query answered.
func Ask[Q Query[R], R any](ctx context.Context, b *Bus, q Q) (R, error) {
	return dispatch[Q, R](ctx, b, q.QueryName(), q)
}

// Forget has the cache forget what depends on a kind of a tenant's aggregates:
// for changes that another process has made.
func (b *Bus) Forget(tenant, kind string) { b.cache.forget(tenant, kind) }
