package shadow

import "sluice/internal/inference/tensor"

// within is how far elements of an output may be apart in rows that agree.
type within struct {
	argmax             bool // only the greatest of a row has to be the same
	absolute, relative float64
}

func (c *Config) within(d tensor.Datatype, ranked bool) within {
	w := within{argmax: !c.Values && ranked && isFloat(d)}
	switch {
	case d == tensor.Bool:
	case c.Tolerance != nil:
		w.absolute, w.relative = c.Tolerance.Absolute, c.Tolerance.Relative
	default:
		w.absolute, w.relative = tensor.Tolerance(d)
	}
	return w
}

// marks say which rows of a pair of answers differ, and where most.
type marks struct {
	rows     []bool
	compared int64 // rows that all outputs were compared of

	name string // of the output that is compared now
	each int64  // how many of its elements a row has
	at   int64  // the element that is compared now

	worst Difference
}

// begin forgets all marks, for answers of n rows.
func (m *marks) begin(n int64) {
	if int64(cap(m.rows)) < n {
		m.rows = make([]bool, n)
	}
	m.rows = m.rows[:n]
	clear(m.rows)
	m.compared, m.worst = n, Difference{}
}

// output begins with an output, of which so many elements are compared. One that
// has no rows of its own belongs to all rows.
func (m *marks) output(t *tensor.Tensor, elements, compared int64) {
	n := int64(len(m.rows))
	m.at, m.each = 0, 0
	if n > 0 && len(t.Shape) > 0 && t.Shape[0] == n {
		if m.each = elements / n; m.each > 0 {
			m.compared = min(m.compared, compared/m.each)
		}
	} else if compared < elements {
		m.compared = 0
	}
}

// differ marks the row of the element that is compared now. Excess is how many
// times its tolerance the element is apart.
func (m *marks) differ(excess, distance float64) {
	if m.each > 0 {
		m.rows[m.at/m.each] = true
	} else {
		for i := range m.rows {
			m.rows[i] = true
		}
	}
	if excess > m.worst.Excess || excess == m.worst.Excess && distance > m.worst.Distance {
		m.worst.Output, m.worst.Excess, m.worst.Distance = m.name, excess, distance
	}
}

// end returns what the answers come to.
func (m *marks) end() Difference {
	m.worst.Rows, m.worst.Skipped = m.compared, int64(len(m.rows))-m.compared
	for _, differs := range m.rows[:m.compared] {
		if differs {
			m.worst.Differ++
		}
	}
	return m.worst
}

// Difference is what a pair of answers comes to.
type Difference struct {
	Rows    int64 `json:"rows"`   // that were compared in all outputs
	Differ  int64 `json:"differ"` // of those: in any output
	Skipped int64 `json:"skipped,omitempty"`
	// Output is the one that differs most, empty if none does, and Excess how many
	// times their tolerance two of its elements are apart: 1 where the greatest of a
	// row is another, and the greatest float64 where there is no saying. Distance is
	// that of these elements.
	Output   string  `json:"output,omitempty"`
	Excess   float64 `json:"excess,omitempty"`
	Distance float64 `json:"distance,omitempty"`
}

// Agrees says whether no row differs.
func (d Difference) Agrees() bool { return d.Differ == 0 }

// greater orders differences, the greater first.
func (d Difference) greater(o Difference) bool {
	if d.Excess != o.Excess {
		return d.Excess > o.Excess
	}
	if d.Distance != o.Distance {
		return d.Distance > o.Distance
	}
	return d.Differ > o.Differ
}
