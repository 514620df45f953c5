package oipgrpc

import (
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc/mem"

	"sluice/internal/platform/budget"
)

// largeAnswer is the size from which an answer counts until it is sent: less
// waits in the transport for every stream anyway.
const largeAnswer = 64 << 10

// sending is the pool that one large answer's buffer goes back to, which is how
// the transport says that it is done with it. It then no longer counts.
type sending struct{ account *onceAccount }

func newSending(account budget.Account) *sending {
	s := &sending{&onceAccount{account: account}}
	// The transport drops the buffers of a connection that broke.
	runtime.AddCleanup(s, (*onceAccount).release, s.account)
	return s
}

// Get implements mem.BufferPool.
func (*sending) Get(n int) *[]byte { return buffers.Get(n) }

// Put implements mem.BufferPool.
func (s *sending) Put(b *[]byte) {
	buffers.Put(b)
	s.account.release()
}

var _ mem.BufferPool = (*sending)(nil)

// onceAccount is an account that is released once.
type onceAccount struct {
	account  budget.Account
	released atomic.Bool
}

func (a *onceAccount) release() {
	if !a.released.Swap(true) {
		a.account.Release()
	}
}
