package web

import "context"

type operationKey struct{}

// WithOperationID returns a context for the command that a request asks for.
func WithOperationID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, operationKey{}, id)
}

// OperationID returns the id of the operation that a request with an
// Idempotency-Key asks for, or "". It stays the same when the request is sent
// again and runs again, after a crash say: ids that are made from it make the
// second run find what the first one did.
func OperationID(ctx context.Context) string {
	id, _ := ctx.Value(operationKey{}).(string)
	return id
}
