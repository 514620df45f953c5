package audit

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"sluice/internal/platform/fault"
)

// Storage is where a log lies: named objects, in a folder or a bucket. Names
// are slash-separated relative paths. What a call has written is durable when
// it returns, and no reader ever sees half of it.
type Storage interface {
	// Read returns the object, or an error that is fs.ErrNotExist.
	Read(ctx context.Context, name string) ([]byte, error)
	// Write puts the object there, in place of one that may be there already.
	// It is called for several names at once.
	Write(ctx context.Context, name string, data []byte) error
	// Swap replaces the object if its content still is old; nil means that
	// there is none yet. Otherwise it changes nothing and returns an error of
	// the kind fault.Conflict. This is what keeps two writers apart.
	Swap(ctx context.Context, name string, old, data []byte) error
	// Remove deletes the objects, at most 255; absent ones are no error.
	Remove(ctx context.Context, names ...string) error
}

// Memory is a Storage that ends with the process. Its zero value is empty.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// Read implements Storage.
func (m *Memory) Read(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return slices.Clone(data), nil
}

// Write implements Storage.
func (m *Memory) Write(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, data)
	return nil
}

// Swap implements Storage.
func (m *Memory) Swap(_ context.Context, name string, old, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, exists := m.objects[name]
	if exists != (old != nil) || !bytes.Equal(now, old) {
		return errSwapped(name)
	}
	m.put(name, data)
	return nil
}

func (m *Memory) put(name string, data []byte) {
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	m.objects[name] = slices.Clone(data)
}

// Remove implements Storage.
func (m *Memory) Remove(_ context.Context, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		delete(m.objects, name)
	}
	return nil
}

func errSwapped(name string) error {
	return fault.New(fault.Conflict, "%s was changed by another writer", name).WithCode("audit_second_writer")
}
