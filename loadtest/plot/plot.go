// Package plot draws lines over time as SVG, small enough to lie beside a report
// and plain enough to be read in a diff.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Chart is lines over one horizontal axis.
type Chart struct {
	Title, X, Y string // Y names what is measured, with its unit
	Log         bool   // the vertical axis is logarithmic; what is not positive, or next to nothing, is left out
	Lines       []Line
	Marks       []Mark
}

// Line is one line. A value that is NaN interrupts it.
type Line struct {
	Name string
	Look Look
	X, Y []float64
}

// Look tells lines apart: those of one thing have its colour, and each kind of them a pattern of dashes.
type Look struct {
	Of   int // from 0: the thing
	Dash int // from 0, which is unbroken
}

// stroke is how a line looks: beyond the colours there are, lines are thicker.
func (l Look) stroke() string {
	return fmt.Sprintf(`fill="none" stroke="%s" stroke-width="%.1f" stroke-dasharray="%s"`, l.colour(), 1.5+1.5*float64(l.Of/len(colours)), dashes[l.Dash%len(dashes)])
}

func (l Look) colour() string { return colours[l.Of%len(colours)] }

// Mark is a vertical line with a name, such as the beginning of a phase.
type Mark struct {
	At   float64
	Name string
}

const (
	width, height          = 850.0, 320.0
	left, right, top, base = 64.0, 180.0, 34.0, 280.0
)

var colours = []string{"#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0a7ea4"}

var dashes = []string{"none", "2 2", "7 3", "7 3 2 3", "12 4"}

// row is the height of a line's name, and sample the length of the piece of it beside.
const row, sample = 15.0, 24.0

// SVG returns the chart.
func (c Chart) SVG() []byte {
	var b strings.Builder
	x, y := c.axes()
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`+"\n", width, max(height, top+12+row*float64(len(c.Lines)))) // all names are in it
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%.0f" y="18" font-size="13">%s</text>`+"\n", left, html.EscapeString(c.Title))
	for _, v := range y.ticks() {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y.at(v), width-right, left-6, y.at(v)+4, label(v))
	}
	for _, v := range x.ticks() {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x.at(v), base+15, label(v))
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text><text transform="translate(14 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(left+width-right)/2, base+32, html.EscapeString(c.X), (top+base)/2, html.EscapeString(c.Y))
	for _, m := range c.Marks {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fV%.1f" stroke="#888" stroke-dasharray="3 3"/><text x="%.1f" y="%.1f" fill="#666">%s</text>`+"\n", x.at(m.At), top, base, x.at(m.At)+3, top+9, html.EscapeString(m.Name))
	}
	for i, l := range c.Lines {
		at := top + 12 + row*float64(i)
		fmt.Fprintf(&b, `<path d="%sM%.1f %.1fh%.0f" %s/><text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n",
			c.path(l, x, y), width-right+8, at-4, sample, l.Look.stroke(), width-right+12+sample, at, l.Look.colour(), html.EscapeString(l.Name))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// least is the least that a logarithmic axis goes down to.
const least = 1e-9

// shows reports whether a value can be drawn.
func (c Chart) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && !(c.Log && v < least)
}

func (c Chart) path(l Line, x, y axis) string {
	var b strings.Builder
	pen := "M"
	for i, v := range l.Y {
		if i >= len(l.X) || !c.shows(v) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", pen, x.at(l.X[i]), y.at(v))
		pen = "L"
	}
	return b.String()
}

// axes returns axes that hold all lines and marks.
func (c Chart) axes() (x, y axis) {
	x, y = axis{from: left, to: width - right, lo: math.Inf(1), hi: math.Inf(-1)}, axis{from: base, to: top, log: c.Log, lo: math.Inf(1), hi: math.Inf(-1)}
	for _, l := range c.Lines {
		for i, v := range l.Y {
			if i < len(l.X) && c.shows(v) {
				x.hold(l.X[i])
				y.hold(v)
			}
		}
	}
	for _, m := range c.Marks {
		x.hold(m.At)
	}
	if !c.Log {
		y.hold(0)
	}
	return x.whole(), y.whole()
}

type axis struct {
	from, to float64 // in the picture
	lo, hi   float64 // of the values
	log      bool
}

func (a *axis) hold(v float64) { a.lo, a.hi = min(a.lo, v), max(a.hi, v) }

// whole returns the axis with ends that are ticks, and never empty.
func (a axis) whole() axis {
	if a.lo > a.hi {
		a.lo, a.hi = 0, 1
		if a.log {
			a.lo = 0.1
		}
	}
	if a.log {
		a.lo, a.hi = math.Pow(10, math.Floor(math.Log10(a.lo))), math.Pow(10, math.Ceil(math.Log10(a.hi)))
		if a.lo == a.hi {
			a.hi *= 10
		}
		return a
	}
	if a.lo == a.hi {
		a.hi++
	}
	step := a.step()
	a.lo, a.hi = math.Floor(a.lo/step)*step, math.Ceil(a.hi/step)*step
	return a
}

// step is a round number that divides the axis into 4 to 10 parts.
func (a axis) step() float64 {
	raw := (a.hi - a.lo) / 5
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if raw <= f*unit {
			return f * unit
		}
	}
	return 10 * unit
}

func (a axis) ticks() []float64 {
	var out []float64
	if a.log {
		for v := a.lo; v <= a.hi*1.001; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	for i := 0.0; i <= math.Round((a.hi-a.lo)/a.step()); i++ {
		out = append(out, a.lo+i*a.step())
	}
	return out
}

func (a axis) at(v float64) float64 {
	share := (v - a.lo) / (a.hi - a.lo)
	if a.log {
		share = math.Log(v/a.lo) / math.Log(a.hi/a.lo)
	}
	return a.from + share*(a.to-a.from)
}

func label(v float64) string {
	if v != 0 && math.Abs(v) < 1 {
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.6g", v)
}
