package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/crash/overlay"
)

// point is a place in the program where a process can be killed, or frozen, just
// then. It is built in at build time: nothing of it is in the program.
type point struct {
	name, dir, function string
	end                 bool // of the function, else its beginning
}

// points are the moments between two effects of which one must not go without the
// other.
var points = []point{
	{"accepted", "internal/inference/api", "API.accept", true},                     // the prediction is committed, its client not told
	{"answered", "internal/platform/web/idempotency", "Repository.Complete", true}, // the answer is kept, and not sent
	{"saved", "internal/inference/job", "bucket.Save", true},                       // an object is there that nothing refers to
	{"started", "internal/inference/job", "Worker.attempt", false},                 // the attempt is counted, and not run
	{"ran", "internal/inference/job", "Worker.finish", false},                      // it was run, its outcome is not committed
	{"finished", "internal/inference/job", "Worker.attempt", true},                 // that is committed, the message not acknowledged
	{"published", "internal/platform/repo/sqliterepo", "Driver.Published", false},  // the queue has messages, the outbox does not know
	{"sent", "internal/platform/webhook/deliver", "Service.post", true},            // the receiver has a webhook, its delivery does not know
	{"logged", "internal/platform/audit/trail", "Trail.indexAll", false},           // the audit log has an entry, the read model has not
	{"reminded", "internal/inference/job", "Reconciler.Tenant", true},              // what is due was announced
}

// killer is the model that ends the process which runs it.
const killer = "killer"

// pointsVariable names the folder by whose files points are armed.
const pointsVariable = "CRASH_POINTS"

// addPoints adds the points to an overlay.
func addPoints(o *overlay.Overlay) error {
	added := map[string]bool{}
	for _, p := range points {
		statement := fmt.Sprintf("crashPoint(%q)", p.name)
		if p.end {
			statement = "defer " + statement
		}
		if err := o.Begin(p.dir, p.function, statement); err != nil {
			return err
		}
		if added[p.dir] {
			continue
		}
		added[p.dir] = true
		name, err := o.Package(p.dir)
		if err != nil {
			return err
		}
		o.Add(filepath.Join(p.dir, "crash_point.go"), fmt.Sprintf(pointSource, name, pointsVariable))
	}
	const oip = "internal/inference/oip"
	o.Add(filepath.Join(oip, "crash_model.go"), fmt.Sprintf(killerSource, pointsVariable, killer))
	return o.Begin(oip, "Answer", "crashModel(q.Model)")
}

// killerSource ends the process that runs the killer.
const killerSource = `package oip

import (
	"os"
	"syscall"
	"time"
)

func crashModel(name string) {
	if os.Getenv(%q) != "" && name == %q {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Second)
	}
}
`

// pointSource ends or freezes the process that comes first to a point that is
// armed, by a file of its name, which says the signal; or holds up only what came
// there, for the time that it says, unless it is released before.
const pointSource = `package %s

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

var crashPoints = os.Getenv(%q)

func crashPoint(name string) {
	if crashPoints == "" {
		return
	}
	armed := filepath.Join(crashPoints, name)
	text, err := os.ReadFile(armed)
	if err != nil || os.Rename(armed, armed+".hit-"+strconv.Itoa(os.Getpid())) != nil {
		return
	}
	if d, err := time.ParseDuration(string(text)); err == nil && d > 0 {
		released := armed + ".release"
		for end := time.Now().Add(d); time.Now().Before(end) && os.Remove(released) != nil; {
			time.Sleep(10 * time.Millisecond)
		}
		return
	}
	number, _ := strconv.Atoi(string(text))
	_ = syscall.Kill(os.Getpid(), syscall.Signal(number))
	time.Sleep(200 * time.Millisecond) // no further, before the signal has come
}
`

// armory arms points, and sees which were hit.
type armory struct{ dir string }

func newArmory(dir string) (armory, error) { return armory{dir}, os.MkdirAll(dir, 0o755) }

// What happens to who comes to a point: a signal by its number, or a time to wait.
const (
	dies    = "9"
	freezes = "19"
	waits   = "1500ms" // less than a lease
	sticks  = "30s"    // more, and enough for another attempt to have ended
)

// arm has something happen to the next process that comes to a point.
func (a armory) arm(name, what string) error {
	if err := os.Remove(filepath.Join(a.dir, name+".release")); err != nil && !os.IsNotExist(err) {
		return err
	}
	part := filepath.Join(a.dir, "."+name)
	if err := os.WriteFile(part, []byte(what), 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(a.dir, name))
}

// release lets go on what is held up at a point.
func (a armory) release(name string) error {
	return os.WriteFile(filepath.Join(a.dir, name+".release"), nil, 0o600)
}

// disarm takes an arming back that nobody came to.
func (a armory) disarm(name string) error {
	err := os.Remove(filepath.Join(a.dir, name))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// hit returns the process that a point was hit by, and forgets it; 0 where none
// was within the limit.
func (a armory) hit(ctx context.Context, name string, limit time.Duration) (int, error) {
	for deadline := time.Now().Add(limit); ; {
		found, err := filepath.Glob(filepath.Join(a.dir, name+".hit-*"))
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			pid, err := strconv.Atoi(found[0][strings.LastIndexByte(found[0], '-')+1:])
			if err != nil {
				return 0, err
			}
			return pid, os.Remove(found[0])
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return 0, ctx.Err()
		}
		time.Sleep(5 * time.Millisecond)
	}
}
