// Package idempotency makes unsafe requests safe to send again: with an
// Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07) an operation is
// done once, and every repetition gets the answer of the first.
//
// A key belongs to a tenant, a principal and a route, and to one request: the
// same key with another body is refused. While the operation is being done, a
// repetition is told to come back. If the process that does it dies, its lease
// ends, and the next repetition does it again under the same operation id, by
// which the command finds what was done already.
//
// Known limits: an answer is kept for a day and up to a size; one that is larger,
// or that was lost in a crash, is made again by doing the operation again, under
// the same id. So exactly-once effects need commands that use web.OperationID.
package idempotency

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"
)

// Key names one operation of one caller.
type Key struct {
	Tenant, Principal string
	Route             string // method and path in the router's form
	Value             string // of the Idempotency-Key header
}

// Fingerprint tells requests apart: a hash of method, address and body.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a request.
func FingerprintOf(method, address string, body []byte) (f Fingerprint) {
	h := sha256.New()
	for _, part := range []string{method, address} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(body)
	h.Sum(f[:0])
	return f
}

// Answer is what a finished operation answered.
type Answer struct {
	Status int
	Header http.Header // what the handler set
	Body   []byte
	// Secret says that the answer was not kept, because it holds a secret that is
	// shown once. Header and Body are empty then.
	Secret bool
}

// Reservation is what a store knows about a key.
type Reservation struct {
	Fingerprint Fingerprint
	OperationID string // stays the same over attempts
	Attempt     int    // 1 for the first; tells an attempt from one whose lease ended
	// LeaseEnds is when another attempt may be made; the zero time once there is
	// an Answer.
	LeaseEnds time.Time
	Answer    *Answer // nil until the operation is finished
}

// Claim is an attempt to reserve a key.
type Claim struct {
	Fingerprint Fingerprint
	OperationID string        // for the first attempt
	Lease       time.Duration // how long this attempt may take
	Keep        time.Duration // how long the store remembers the key, from the first attempt
}

// Store remembers reservations. Each method is atomic; all nodes share one
// store. Errors are those of the store's own: what is found is no error.
type Store interface {
	// Reserve claims the key if nobody has it. If somebody had it whose lease has
	// ended without an answer, and the fingerprint is the same, it starts the next
	// attempt, which keeps the operation's id. Else it returns what there is, and
	// false.
	Reserve(ctx context.Context, key Key, c Claim) (r Reservation, reserved bool, err error)
	// Complete stores the answer, if no later attempt has begun.
	Complete(ctx context.Context, key Key, attempt int, a Answer) error
	// Release ends the lease now, if no later attempt has begun: the operation may
	// be tried again, under its id. With forget, the key is free again altogether,
	// because nothing was done.
	Release(ctx context.Context, key Key, attempt int, forget bool) error
}
