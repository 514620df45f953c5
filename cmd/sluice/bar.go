package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// bar shows how far something is, on a line of a terminal that is drawn again and again.
type bar struct {
	p     *program
	name  string
	total int64 // below 0 where it is not known
	began time.Time
	drawn time.Time
	from  int64 // what was done when it began
	begun bool
	unit  func(int64) string
}

const (
	redraw   = 100 * time.Millisecond
	barWidth = 30
)

func (p *program) bar(name string, total int64) *bar {
	return &bar{p: p, name: plain(name), total: total, began: time.Now(), unit: size}
}

// counter is a bar that counts things instead of bytes.
func (p *program) counter(name, things string) *bar {
	return &bar{p: p, name: plain(name), began: time.Now(), unit: func(n int64) string { return fmt.Sprintf("%d %s", n, things) }}
}

// set says how much is done.
func (b *bar) set(done int64) { b.of(done, b.total) }

// of says how much is done, of how much.
func (b *bar) of(done, total int64) {
	if !b.begun {
		b.begun, b.from = true, done
	}
	if !b.p.live || time.Since(b.drawn) < redraw && done != total {
		return
	}
	b.drawn = time.Now()
	rate := float64(done-b.from) / max(time.Since(b.began).Seconds(), 1e-3)
	b.line(done, total, b.unit(int64(rate))+"/s", remaining(done, total, rate))
}

// line draws the bar.
func (b *bar) line(done, total int64, rate, left string) {
	if total < 0 {
		fmt.Fprintf(b.p.err, "\r\x1b[K%s  %s  %s", b.name, b.unit(done), rate)
		return
	}
	share := float64(done) / float64(max(total, 1))
	full := min(int(share*barWidth), barWidth)
	fmt.Fprintf(b.p.err, "\r\x1b[K%s [%s%s] %3.0f %%  %s  %s", b.name, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*share, rate, left)
}

// end leaves the line as it is, and begins the next.
func (b *bar) end() {
	if !b.drawn.IsZero() {
		fmt.Fprintln(b.p.err)
	}
}

// remaining says how long the rest takes at this rate.
func remaining(done, total int64, rate float64) string {
	if total < 0 || rate <= 0 {
		return ""
	}
	return cmp.Or(time.Duration(float64(total-done)/rate*float64(time.Second)).Round(time.Second).String(), "0s") + " left"
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n)/unit, "KMGTP"
	for len(names) > 1 && value >= unit {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, names[0])
}
