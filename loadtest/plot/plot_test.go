package plot

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is drawn, it is XML, has no number that is none, and stays in the
// picture.
func TestAChartIsAlwaysAPicture(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(rapid.Float64Range(-1e6, 1e6), rapid.SampledFrom([]float64{0, math.NaN(), math.Inf(1), 1e-305, 1e-9, 42}))
		c := Chart{Title: rapid.SampledFrom([]string{"", "a<b>&\"c"}).Draw(rt, "title"), Log: rapid.Bool().Draw(rt, "log"), Marks: []Mark{{rapid.Float64Range(-5, 25).Draw(rt, "mark"), "<m>"}}}
		for range rapid.IntRange(0, 3).Draw(rt, "lines") {
			ys := rapid.SliceOfN(value, 0, 20).Draw(rt, "ys")
			l := Line{Name: "<l>", Y: ys}
			for i := range ys {
				l.X = append(l.X, float64(i))
			}
			c.Lines = append(c.Lines, l)
		}
		svg := string(c.SVG())
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				rt.Fatalf("%v in %s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			rt.Fatalf("no number: %s", svg)
		}
		x, y := c.axes()
		if px := x.at(c.Marks[0].At); px < left-1 || px > width-right+1 {
			rt.Fatalf("the mark at %v lies at %v", c.Marks[0].At, px)
		}
		for _, l := range c.Lines {
			for i, v := range l.Y {
				if !c.shows(v) {
					continue
				}
				if px, py := x.at(l.X[i]), y.at(v); px < left-1 || px > width-right+1 || py < top-1 || py > base+1 {
					rt.Fatalf("%v lies at %v, %v", v, px, py)
				}
			}
		}
	})
}

// No two lines look alike, also where there are more things than colours; those of one thing have one colour, and all
// names are in the picture, each beside a piece of its line.
func TestLinesDiffer(t *testing.T) {
	var c Chart
	for of := range 2*len(colours) + 1 {
		for dash := range dashes {
			c.Lines = append(c.Lines, Line{Name: "l", Look: Look{of, dash}, X: []float64{0, 1}, Y: []float64{1, 2}})
		}
	}
	svg := string(c.SVG())
	var tall float64
	if _, err := fmt.Sscanf(svg[strings.Index(svg, "viewBox"):], `viewBox="0 0 850 %g"`, &tall); err != nil {
		t.Fatal(err)
	}
	looks, colour := map[string]bool{}, map[int]string{}
	for line := range strings.Lines(svg) {
		path, look, ok := strings.Cut(line, `" fill="none" `)
		if !ok {
			continue
		}
		look, name, _ := strings.Cut(look, "/>")
		of := len(looks) / len(dashes)
		looks[look] = true
		this := strings.Fields(look)[0]
		if colour[of] != "" && colour[of] != this {
			t.Errorf("lines of thing %d are %s and %s", of, colour[of], this)
		}
		colour[of] = this
		var x, y float64
		if _, err := fmt.Sscanf(name, `<text x="%g" y="%g"`, &x, &y); err != nil || y > tall || !strings.HasSuffix(path, "h24") {
			t.Errorf("its name lies at %v of %v: %v, %s", y, tall, err, path)
		}
	}
	if len(looks) != len(c.Lines) {
		t.Errorf("%d lines have %d looks", len(c.Lines), len(looks))
	}
}
