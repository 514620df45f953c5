// Package budget bounds the memory that the requests of a listener hold
// together: bodies, what they are decompressed and decoded to, and answers.
// Beyond it requests are refused, which costs a client a retry, instead of
// taken, which could cost everybody the process.
package budget

import (
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
)

// Code is the code of the error where a budget is used up.
const Code = "request_memory_full"

// Budget is a number of bytes that requests share.
type Budget struct {
	limit int64
	key   string
	held  atomic.Int64
}

// New returns a budget of limit bytes. The key names the setting that raises
// it, for the refusal's text.
func New(limit int64, key string) *Budget { return &Budget{limit: limit, key: key} }

// Held returns how many bytes are held now.
func (b *Budget) Held() int64 { return b.held.Load() }

// Account returns an empty account of the budget.
func (b *Budget) Account() Account { return Account{budget: b} }

// Account is what one request holds of a budget. It may be copied while it is
// empty, and is not safe for concurrent use. The zero value is empty and can
// only be released.
type Account struct {
	budget *Budget
	held   int64
}

// Acquire adds n bytes, before they are set aside, or fails with Unavailable and
// adds nothing. A request that is alone always gets what it asks for: else one
// that the other limits allow could never be served.
func (a *Account) Acquire(n int64) error {
	b := a.budget
	if held := b.held.Add(n); held > b.limit && held > a.held+n {
		b.held.Add(-n)
		return fault.New(fault.Unavailable, "the requests being served hold %d bytes of memory, and %d more would be over the limit of %d (%s): retry",
			held-n, n, b.limit, b.key).WithCode(Code).WithRetryAfter(time.Second)
	}
	a.held += n
	return nil
}

// Return takes n bytes off the account, of those that it holds.
func (a *Account) Return(n int64) {
	if n != 0 {
		a.held -= n
		a.budget.held.Add(-n)
	}
}

// Release returns all that the account holds.
func (a *Account) Release() { a.Return(a.held) }

// Held returns how many bytes the account holds.
func (a *Account) Held() int64 { return a.held }

// Split moves n bytes to a new account.
func (a *Account) Split(n int64) Account {
	a.held -= n
	return Account{budget: a.budget, held: n}
}
