package ortengine

import (
	"context"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// watch terminates a slot's run when its context ends. It stays with the context
// after the run: the next one mostly has the same, and to be told of its end costs
// more than a small model.
type watch struct {
	ctx  context.Context //nolint:containedctx // of the last run, and likely of the next
	stop func() bool     // of context.AfterFunc; nil where ctx cannot end

	mu         sync.Mutex
	run        *ort.RunOptions // of the run in progress; nil for none
	terminated bool            // it was told to end
}

// begin watches over a run with the options until end is called. It fails where ctx has
// ended already.
func (w *watch) begin(ctx context.Context, options *ort.RunOptions) error {
	if ctx != w.ctx {
		w.forget()
		w.keep(ctx)
	}
	w.mu.Lock()
	w.run = options
	w.mu.Unlock()
	err := ctx.Err() // from here on terminate finds the run
	if err != nil {
		w.end()
	}
	return err
}

func (w *watch) keep(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx = ctx
	if ctx.Done() != nil {
		w.stop = context.AfterFunc(ctx, func() { w.terminate(ctx) })
	}
}

// terminate ends the run in progress, if it has the context. It may come late, when
// the slot serves another.
func (w *watch) terminate(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run != nil && w.ctx == ctx {
		w.terminated = w.run.Terminate() == nil
	}
}

// end is called after the run: what comes later has no effect on the options.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.terminated {
		_ = w.run.UnsetTerminate()
	}
	w.run, w.terminated = nil, false
}

// forget lets go of the context. No run may be in progress.
func (w *watch) forget() {
	if w.stop != nil {
		w.stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.stop = nil, nil
}
