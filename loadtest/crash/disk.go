package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// volume is a small file system of its own.
type volume struct {
	path    string
	ballast string
}

// volumeSize is enough for a short run, and small enough to be filled at once.
const volumeSize = 256 << 20

// newVolume mounts a small file system: ext4 on a loop device, or tmpfs where
// there is none.
func newVolume(ctx context.Context, dir string) (*volume, error) {
	v := &volume{path: filepath.Join(dir, "volume")}
	v.ballast = filepath.Join(v.path, "ballast")
	if err := os.MkdirAll(v.path, 0o755); err != nil {
		return nil, err
	}
	image := filepath.Join(dir, "volume.img")
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(volumeSize), f.Close()); err != nil {
		return nil, err
	}
	loop := errors.Join(command(ctx, "mkfs.ext4", "-q", "-m", "0", image), command(ctx, "mount", "-o", "loop", image, v.path))
	if loop == nil {
		return v, nil
	}
	if err := command(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", volumeSize), "tmpfs", v.path); err != nil {
		return nil, fmt.Errorf("a full disk needs a small file system: run this as root where mounting is allowed, or leave the scenario out with -only: %w", errors.Join(loop, err))
	}
	return v, nil
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// remove unmounts the file system.
func (v *volume) remove() error {
	err := syscall.Unmount(v.path, 0)
	for try := 0; errors.Is(err, syscall.EBUSY) && try < 50; try++ {
		time.Sleep(100 * time.Millisecond)
		err = syscall.Unmount(v.path, 0)
	}
	return err
}

// fill takes all space that is left.
func (v *volume) fill() error {
	f, err := os.OpenFile(v.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// fullCodes are the refusals that a full disk may bring.
var fullCodes = []string{"storage_full", "storage_failed", "store_busy", "outcome_unknown", "idempotency_in_flight"}

// diskFull fills the disk under everything for a while. Commands are refused and
// reads go on; when there is room again everything works without a restart.
func diskFull(ctx context.Context, s *settings) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	dir := filepath.Join(s.dir, "disk")
	v, err := newVolume(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.remove()) }()
	b, err := newBed(s, "disk", filepath.Join(v.path, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.api.kill()) }()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.begin(ctx, 6, 5*time.Millisecond); err != nil {
		return err
	}
	time.Sleep(pick(s, 3*time.Second, 10*time.Second))
	var more []string
	for range pick(s, 1, 3) {
		found, err := b.fullOnce(ctx, v)
		if err != nil {
			return err
		}
		more = append(more, found...)
	}
	if err := b.finish(); err != nil {
		return err
	}
	if err := b.drained(ctx, time.Minute, unlogged(b.database())); err != nil {
		more = append(more, err.Error())
	}
	for code := range b.tally.codes {
		if !slices.Contains(fullCodes, code) {
			more = append(more, "a refusal has the code "+code)
		}
	}
	e, err := b.embedded(ctx)
	if err != nil {
		return err
	}
	e.wasFull = true
	return b.verdict(e, more...)
}

// fullOnce fills the disk, looks, and makes room again.
func (b *bed) fullOnce(ctx context.Context, v *volume) (problems []string, err error) {
	_, codes := b.tally.snapshot()
	refused := func() int {
		n := 0
		_, now := b.tally.snapshot()
		for code, count := range now {
			n += count - codes[code]
		}
		return n
	}
	began := time.Now()
	for refused() < 20 { // what is there may be written over for a while
		if err := v.fill(); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
		if time.Since(began) > 40*time.Second {
			return []string{"the disk is full, and no command was refused"}, os.Remove(v.ballast)
		}
	}
	filled := time.Since(began)
	for end := time.Now().Add(pick(b.settings, 4*time.Second, 15*time.Second)); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		reader := newCaller("http://"+b.http, b.gate, b.tally)
		a, err := reader.send(ctx, request{Method: http.MethodGet, Path: b.shared[0].path()})
		if err != nil || !a.ok() {
			problems = append(problems, fmt.Sprintf("a read failed while the disk was full: %v, %v", a, err))
			break
		}
	}
	n := refused()
	if err := os.Remove(v.ballast); err != nil {
		return nil, err
	}
	freed := time.Now()
	before, _ := b.tally.snapshot()
	for {
		if now, _ := b.tally.snapshot(); now > before+20 {
			break
		}
		if time.Since(freed) > 60*time.Second {
			return append(problems, "there is room again, and commands are still refused after a minute"), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	commands := time.Since(freed)
	if _, err := b.recovers(ctx, "queue", 60*time.Second); err != nil {
		problems = append(problems, err.Error())
	}
	b.logf("full after %.1f s; %d refusals; with room again commands were taken after %.1f s, the queue was ready after %.1f s",
		filled.Seconds(), n, commands.Seconds(), time.Since(freed).Seconds())
	time.Sleep(3 * time.Second)
	return problems, nil
}
