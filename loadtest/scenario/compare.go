package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ReadReport reads the report of a scenario from a folder that Write wrote to.
func ReadReport(folder, scenario string) (*Report, error) {
	text, err := os.ReadFile(filepath.Join(folder, scenario+".json"))
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s of %s is no report: %w", scenario, folder, err)
	}
	return r, nil
}

// Comparable fails where no phase can be compared with an earlier run: it has to be as long as it was, and long enough for a spread.
func (s *Scenario) Comparable(before *Report) error {
	for i, p := range s.Phases {
		from, to := whole(s.begins(i), s.begins(i)+p.For)
		for _, t := range s.Traffic {
			q, ok := before.phase(t.Name, p.Name)
			if ok && q.Length == p.For.Seconds() && to-from >= fewestDrawn && q.GoodSpread != (Spread{}) {
				return nil
			}
		}
	}
	return fmt.Errorf("scenario %s: no phase is as long as before and takes %d seconds or more, as a spread needs: run both with or both without -short, or make the phases longer", s.Name, fewestDrawn)
}

// Comparison is a figure of two runs.
type Comparison struct {
	Figure                  string
	Before, Now             float64
	SpreadBefore, SpreadNow Spread
}

// Agree reports whether the spreads of both meet.
func (c Comparison) Agree() bool { return c.SpreadNow.overlaps(c.SpreadBefore) }

func (c Comparison) String() string {
	verdict := "DIFFERS"
	if c.Agree() {
		verdict = "agrees"
	}
	return fmt.Sprintf("%s %s: %s before, %s now", verdict, c.Figure, spreadOf(c.Before, c.SpreadBefore), spreadOf(c.Now, c.SpreadNow))
}

// Compare compares what two runs of a scenario say of each phase that has spreads in both.
func (r *Report) Compare(before *Report) (list []Comparison) {
	for _, t := range r.Traffic {
		for _, p := range t.Phases {
			q, ok := before.phase(t.Name, p.Name)
			if !ok || p.Length != q.Length {
				continue
			}
			of := func(what string, was, is float64, wasIn, isIn Spread) {
				if wasIn != (Spread{}) && isIn != (Spread{}) {
					list = append(list, Comparison{what + " of " + t.Name + " in " + p.Name, was, is, wasIn, isIn})
				}
			}
			of("in time/s", float64(q.Good)/q.Length, float64(p.Good)/p.Length, q.GoodSpread, p.GoodSpread)
			of("p50 ms", q.P50, p.P50, q.P50Spread, p.P50Spread)
			of("p99 ms", q.P99, p.P99, q.P99Spread, p.P99Spread)
		}
	}
	return list
}

// phase finds the figure of some traffic in a phase.
func (r *Report) phase(traffic, phase string) (Figure, bool) {
	for _, t := range r.Traffic {
		for _, p := range t.Phases {
			if t.Name == traffic && p.Name == phase {
				return p, true
			}
		}
	}
	return Figure{}, false
}

// spreadOf is a value with its spread, for people.
func spreadOf(v float64, s Spread) string {
	if s == (Spread{}) {
		return number(v)
	}
	return fmt.Sprintf("%s (%s–%s)", number(v), number(s.Low), number(s.High))
}
