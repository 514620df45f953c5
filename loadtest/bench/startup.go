package main

import (
	"context"
	"path/filepath"
	"time"

	"sluice/internal/platform/pause"
)

// measureStart starts the server on the sample models, first with an empty
// data folder and then again on the same one, and looks at its memory at rest.
func measureStart(ctx context.Context, b *bench) error {
	data := filepath.Join(b.dir, "start-data")
	var first time.Duration
	var warm, memory []float64
	for i := range 1 + b.rounds() {
		s, err := b.start(ctx, "start", "models", data)
		if err != nil {
			return err
		}
		if i == 0 {
			first = s.Ready
		} else {
			warm = append(warm, s.Ready.Seconds())
		}
		pause.For(ctx, time.Second) // what start-up left behind is at rest by then
		rss, err := s.RSS()
		if err == nil {
			memory = append(memory, float64(rss)/1e6)
		}
		if stopErr := s.Stop(); stopErr != nil {
			return stopErr
		}
		if err != nil {
			return err
		}
	}
	b.report.line("sample models: ready %.2f s after the first start with an empty data folder, %.2f s after later ones; %.0f MB resident one second later",
		first.Seconds(), median(warm), median(memory))
	b.report.set("ready_first", first.Seconds())
	b.report.set("ready", median(warm))
	b.report.set("idle_memory", median(memory))
	return nil
}
