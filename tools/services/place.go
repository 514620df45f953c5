package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// place is where the set of one checkout lives, outside of the checkout.
type place struct {
	root  string // the checkout
	cache string // programs, shared by all checkouts, keyed by version
	state string // this checkout's processes, logs and data
	// members adds the servers to a set whose ports are known.
	members func(*set)
}

// here finds the checkout from the working directory, so that a test can call
// the command from its package's folder.
func here() (*place, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for root := dir; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "tools", "services", "main.go")); err == nil {
			return placeOf(root)
		}
		if root == filepath.Dir(root) {
			return nil, fmt.Errorf("%s is in no checkout of Sluice: run it from one", dir)
		}
	}
}

func placeOf(root string) (*place, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(home, ".cache")
	}
	cache = filepath.Join(cache, "sluice", "services")
	key := fmt.Sprintf("%s-%x", filepath.Base(root), sha256.Sum256([]byte(root)))[:len(filepath.Base(root))+9]
	p := &place{root: root, cache: cache, state: filepath.Join(cache, "state", key), members: all}
	return p, os.MkdirAll(cache, 0o755) //nolint:gosec // G703: the user's own cache
}

// locked keeps every other call of this user out while f runs, those for other
// checkouts, too: between choosing free ports and listening on them, nobody else
// may choose.
func (p *place) locked(f func() error) error { return locked(filepath.Join(p.cache, "lock"), f) }

// locked runs f under a lock that ends with the process, whatever ends it.
func locked(name string, f func() error) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	return f()
}

// Ports come in blocks of a hundred, one block for a checkout, below the range
// from which systems choose by themselves and away from every server's default.
const (
	firstBlock = 27100
	lastBlock  = 29900
	blockSize  = 100
)

// block returns the first port of this checkout's block. The choice is kept
// as long as the state is: addresses stay the same over restarts of a server.
func (p *place) block(used []int) (int, error) {
	file := filepath.Join(p.state, "ports")
	if b, err := os.ReadFile(file); err == nil {
		return strconv.Atoi(strings.TrimSpace(string(b)))
	} else if !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	for base := firstBlock; base <= lastBlock; base += blockSize {
		if free(base, used) {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no free block of ports from %d to %d: something listens in every one of them", firstBlock, lastBlock)
}

// keepBlock writes the choice down.
func (p *place) keepBlock(base int) error {
	if err := os.MkdirAll(p.state, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.state, "ports"), []byte(strconv.Itoa(base)+"\n"), 0o644)
}

// free says whether all the given ports of a block can be listened on.
func free(base int, offsets []int) bool {
	for _, offset := range offsets {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", loopback(base+offset))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
