package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Sandbox tries models in a child process, so that a file which crashes,
// hangs or exhausts the runtime costs that process and not the server.
type Sandbox struct {
	// Command is the program and arguments whose main calls Child.
	Command []string
	// Timeout bounds one try; 0 means one minute.
	Timeout time.Duration
	// Drain is for how long what a child said is read once it has ended; 0 means 20 s.
	// On a busy machine that takes more than a moment: a child that is being started
	// holds the other's end open, too.
	Drain time.Duration
}

// Codes of errors of trials. The first says nothing about the model; the others may
// be the doing of a machine that has too much to do or too little memory.
const (
	CodeSandbox = "sandbox_unavailable"
	CodeTimeout = "trial_timeout"
	CodeKilled  = "trial_killed"
)

// request is what the child reads: one line of JSON, then the model's bytes.
type request struct {
	Name      string
	Bytes     int
	Signature *model.Signature
	Batches   bool
	MaxRows   int
	Execution model.Execution
	Golden    *Golden `json:",omitempty"`
}

type reply struct {
	Report Report `json:"report"`
	Error  string `json:"error"`
	Code   string `json:"code,omitempty"`
}

// Try opens the model in a child process, runs it on synthetic rows, and
// probes its batch invariance. An error means that the model must not be
// loaded here: it was refused, crashed, hung, or ran over its limits. Where the
// child could not be started it is Unavailable, with CodeSandbox. Where ctx ends, the error is of its kind and says nothing about the model.
func (s Sandbox) Try(ctx context.Context, spec engine.Spec) (Report, error) {
	return s.TryGolden(ctx, spec, nil)
}

// TryGolden is Try, with a golden run that the model has to answer as it says; nil
// is none. One that it answers otherwise is an error with CodeGolden.
func (s Sandbox) TryGolden(ctx context.Context, spec engine.Spec, golden *Golden) (Report, error) {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	header, err := json.Marshal(request{spec.Name, len(spec.Data), spec.Signature, spec.Batches, spec.MaxRows, spec.Execution, golden})
	if err != nil {
		return Report{}, fault.Wrap(fault.Internal, err, "cannot describe model %q to the sandbox", spec.Name)
	}
	cmd := exec.CommandContext(bounded, s.Command[0], s.Command[1:]...) //nolint:gosec // G204: the program's own file, set by its main; no request or model reaches it
	cmd.Stdin = io.MultiReader(bytes.NewReader(append(header, '\n')), bytes.NewReader(spec.Data))
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"HOME=/nonexistent", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = cmp.Or(s.Drain, 20*time.Second)
	confine(cmd)

	// The system ends the child with the thread that started it (confine), and threads
	// end: the child's is to stay until it has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runErr := cmd.Start()
	if runErr != nil && bounded.Err() == nil {
		return Report{}, fault.Wrap(fault.Unavailable, runErr, "the sandbox in which model %q is to be tried could not be started; its program must stay where it was, and the system must allow one more process", spec.Name).WithCode(CodeSandbox)
	}
	if runErr == nil {
		runErr = cmd.Wait()
	}
	if err := ctx.Err(); err != nil {
		return Report{}, fault.Wrap(fault.Of(err).Kind, err, "the trial run of model %q in the sandbox was given up", spec.Name)
	}
	if err := bounded.Err(); err != nil {
		return Report{}, fault.Wrap(fault.Invalid, err, "model %q did not finish its trial run in the sandbox within %s", spec.Name, timeout).WithCode(CodeTimeout)
	}
	if errors.Is(runErr, exec.ErrWaitDelay) { // what was read is not all that the child said
		return Report{}, fault.Wrap(fault.Unavailable, runErr, "the sandbox in which model %q was tried has ended, and what it said could not be read within %s: the machine has too much to do", spec.Name, cmd.WaitDelay).WithCode(CodeSandbox)
	}
	var r reply
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		f := fault.Wrap(fault.Invalid, runErr, "model %q crashed its trial run in the sandbox: %s", spec.Name, lastWords(runErr, stderr.String()))
		if killed(runErr) {
			f = f.WithCode(CodeKilled)
		}
		return Report{}, f
	}
	if r.Error != "" {
		return Report{}, fault.New(fault.Invalid, "%s", r.Error).WithCode(r.Code)
	}
	return r.Report, nil
}

// Child is the sandbox's other side. It confines itself, reads one model from
// in, tries it on an engine that open makes, and writes the outcome to out.
func Child(ctx context.Context, in io.Reader, out io.Writer, open func() (engine.Engine, error)) error {
	var r reply
	report, err := try(ctx, in, open)
	if r.Report = report; err != nil {
		r.Error, r.Code = fault.Of(err).Message, fault.Of(err).Code
		if cause := fault.Of(err).Cause; cause != nil {
			r.Error += ": " + cause.Error()
		}
	}
	return json.NewEncoder(out).Encode(r)
}

func try(ctx context.Context, in io.Reader, open func() (engine.Engine, error)) (Report, error) {
	reader := bufio.NewReader(in)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return Report{}, fmt.Errorf("read the sandbox request: %w", err)
	}
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return Report{}, fmt.Errorf("decode the sandbox request: %w", err)
	}
	data := make([]byte, q.Bytes)
	if _, err := io.ReadFull(reader, data); err != nil {
		return Report{}, fmt.Errorf("read the model: %w", err)
	}
	// The engine is opened before the limits are set: the runtime's library
	// has to be mapped, and it is trusted; the model is not.
	e, err := open()
	if err != nil {
		return Report{}, err
	}
	if err := limitSelf(q.Execution); err != nil {
		return Report{}, err
	}
	spec := engine.Spec{Name: q.Name, Data: data, Signature: q.Signature, Batches: q.Batches, MaxRows: q.MaxRows, Execution: q.Execution}
	session, err := e.Open(ctx, spec)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = session.Close() }()
	if q.Golden != nil {
		if err := q.Golden.Run(ctx, session, spec); err != nil {
			return Report{}, err
		}
	}
	return Invariance(ctx, session, spec), nil
}

// limited keeps the first 64 KiB of what a child prints.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 64<<10 - l.Len(); room > 0 {
		_, _ = l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// killed says whether a process was ended by SIGKILL: by the system, say, for want
// of memory.
func killed(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// lastWords says what is known of the end of a process, for people to read.
func lastWords(err error, stderr string) string {
	words := lastLine(stderr)
	if words == "" && err != nil {
		words = err.Error()
	}
	clean := func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}
	return strings.Map(clean, fault.Clip(cmp.Or(words, "it did not say how it went"), 300))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "SIG") || strings.HasPrefix(l, "fatal error") || strings.HasPrefix(l, "terminate") {
			return l
		}
	}
	return lines[len(lines)-1]
}
