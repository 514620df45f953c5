// Package drift tells how far what a model sees now, or answers now, is from
// what it saw in a reference window.
//
// Bins are made of the reference, once; windows are counted over them and add
// up, whoever counted them. Distances are then functions of two rows of counts:
// the population stability index, Kolmogorov and Smirnov's distance, and that
// of Jensen and Shannon. With few observations a distance says more about
// chance than about drift: Compare answers only from MinCount on, and says how
// much of the index is expected by chance.
//
// Known limits: a distance is no test. With a million observations a harmless
// change is significant, so thresholds are on distances; and they are looked at
// again and again without a correction for that.
package drift

import (
	"encoding/json"
	"math"
	"slices"
	"sort"

	"sluice/internal/platform/fault"
)

// Bounds of bins.
const (
	MaxBins = 1000 // edges, or names
	MaxName = 256  // bytes of a category's name
)

// MinCount is how many observations each side needs at least.
const MinCount = 200

// Bins divide the values of a feature: numbers by edges, or categories by name.
// They are immutable.
//
// Numbers have a bin up to and including each edge, and one beyond the last; a
// category that is not named is among the others. The last bin of all is for
// values that are missing: NaN, or an empty name.
type Bins struct {
	edges []float64
	names []string // sorted
}

// NumericBins returns bins that hold about equally many of the reference's
// values each, n of them at most: fewer where values are frequent. Ten are usual
// for the index; Kolmogorov and Smirnov's distance gains from a hundred.
func NumericBins(reference []float64, n int) (*Bins, error) {
	if n < 2 || n > MaxBins {
		return nil, fault.New(fault.Invalid, "%d bins were asked for, expected 2 to %d", n, MaxBins).WithCode("drift_bins")
	}
	values := slices.DeleteFunc(slices.Clone(reference), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
	slices.Sort(values)
	var edges []float64
	for i := range n - 1 {
		if len(values) == 0 {
			break
		}
		// The least value that at least (i+1)/n of the values do not exceed.
		rank := int(math.Ceil(float64(i+1) / float64(n) * float64(len(values))))
		edges = append(edges, values[max(rank, 1)-1])
	}
	edges = slices.Compact(edges)
	if len(edges) == 0 {
		return nil, fault.New(fault.Invalid, "the reference has no values, so there is nothing to divide").WithCode("drift_bins")
	}
	return &Bins{edges: edges}, nil
}

// CategoryBins returns a bin for each of the n most frequent names of the
// reference.
func CategoryBins(reference map[string]int64, n int) (*Bins, error) {
	if n < 1 || n > MaxBins {
		return nil, fault.New(fault.Invalid, "%d bins were asked for, expected 1 to %d", n, MaxBins).WithCode("drift_bins")
	}
	var names []string
	for name := range reference {
		if name != "" && len(name) <= MaxName {
			names = append(names, name)
		}
	}
	slices.Sort(names) // ties are broken by name
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case reference[a] > reference[b]:
			return -1
		case reference[a] < reference[b]:
			return 1
		}
		return 0
	})
	names = names[:min(n, len(names))]
	if len(names) == 0 {
		return nil, fault.New(fault.Invalid, "the reference has no categories, so there is nothing to divide").WithCode("drift_bins")
	}
	slices.Sort(names)
	return &Bins{names: names}, nil
}

// Len returns how many bins there are.
func (b *Bins) Len() int { return len(b.edges) + len(b.names) + 2 }

// Of returns the bin of a number.
func (b *Bins) Of(x float64) int {
	if math.IsNaN(x) {
		return b.Len() - 1
	}
	return len(b.names) + sort.SearchFloat64s(b.edges, x)
}

// OfName returns the bin of a category.
func (b *Bins) OfName(name string) int {
	if name == "" {
		return b.Len() - 1
	}
	if i, found := slices.BinarySearch(b.names, name); found {
		return i
	}
	return len(b.names)
}

// Equal says whether counts over these and other bins can be compared.
func (b *Bins) Equal(o *Bins) bool {
	return slices.Equal(b.edges, o.edges) && slices.Equal(b.names, o.names)
}

// binsJSON is the form of Bins as JSON.
type binsJSON struct {
	Edges []float64 `json:"edges,omitempty"`
	Names []string  `json:"names,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (b *Bins) MarshalJSON() ([]byte, error) { return json.Marshal(binsJSON{b.edges, b.names}) }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bins) UnmarshalJSON(data []byte) error {
	var in binsJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fault.Wrap(fault.Invalid, err, "bins cannot be read").WithCode("drift_bins")
	}
	rising := slices.IsSorted(in.Edges) && len(slices.Compact(slices.Clone(in.Edges))) == len(in.Edges)
	sorted := slices.IsSorted(in.Names) && len(slices.Compact(slices.Clone(in.Names))) == len(in.Names)
	n := len(in.Edges) + len(in.Names)
	if (len(in.Edges) == 0) == (len(in.Names) == 0) || !rising || !sorted || n > MaxBins {
		return fault.New(fault.Invalid, "bins have either edges that rise or names that are sorted, 1 to %d", MaxBins).WithCode("drift_bins")
	}
	b.edges, b.names = in.Edges, in.Names
	return nil
}

// Counts are how many observations each bin has, as Bins number them. They add up.
type Counts []int64

// Add counts an observation.
func (b *Bins) Add(c *Counts, bin int) {
	if *c == nil {
		*c = make(Counts, b.Len())
	}
	(*c)[bin]++
}

// Merge counts all of another's observations. Counts of other bins are refused
// by their number.
func (c *Counts) Merge(o Counts) error {
	if *c == nil {
		*c = make(Counts, len(o))
	}
	if len(*c) != len(o) && len(o) > 0 {
		return fault.New(fault.Invalid, "counts of %d bins cannot be added to counts of %d: they are of other bins", len(o), len(*c)).WithCode("drift_counts")
	}
	for i, n := range o {
		(*c)[i] += n
	}
	return nil
}

// Total returns how many observations were counted.
func (c Counts) Total() int64 {
	var n int64
	for _, k := range c {
		n += k
	}
	return n
}
