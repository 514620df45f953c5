package export

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/encode/csv"
	"sluice/internal/batch/table"
	"sluice/internal/batch/table/sorter"
	"sluice/internal/platform/fault"
)

// Request is what is to be exported, and how.
type Request struct {
	Dataset string    `json:"dataset"`
	Columns []string  `json:"columns,omitempty"` // in this order; empty is all
	Filters []Filter  `json:"filters,omitempty"` // rows that satisfy all of them
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	AsOf    time.Time `json:"as_of"`
	Sort    []Sort    `json:"sort,omitempty"` // as the dataset has them without

	Format  encode.Format `json:"format"`
	Options Options       `json:"options,omitzero"`
}

// Sort is a column by which rows are put in order; nulls are last.
type Sort struct {
	Column     string `json:"column"`
	Descending bool   `json:"descending,omitempty"`
}

// MaxSort is how many of them an export may have.
const MaxSort = 8

// Options are how the files are written; the zero value is the usual.
type Options struct {
	Compression encode.Compression `json:"compression,omitempty"`
	TimeZone    string             `json:"time_zone,omitempty"` // of the IANA database; empty is UTC
	BOM         bool               `json:"bom,omitempty"`
	Delimiter   string             `json:"delimiter,omitempty"`
	Decimal     string             `json:"decimal,omitempty"`
	Null        string             `json:"null,omitempty"`
	RawFormulas bool               `json:"raw_formulas,omitempty"`
	SheetRows   int                `json:"sheet_rows,omitempty"`
}

// plan is a request that can be carried out.
type plan struct {
	dataset *Dataset
	slice   Slice
	columns []int // of the dataset's
	schema  table.Schema
	sort    []sorter.Key // of the schema's; none leaves rows as the dataset has them
	keep    match        // nil for all rows
	options encode.Options
}

// plan checks a request against the datasets.
func (r *Request) plan(datasets map[string]*Dataset) (*plan, error) {
	d := datasets[r.Dataset]
	if d == nil {
		return nil, fault.New(fault.Invalid, "there is no dataset %q: GET /v1/export-datasets lists them", fault.Clip(r.Dataset, 80)).WithCode("dataset_unknown")
	}
	p := &plan{dataset: d, slice: Slice{From: r.From, To: r.To, AsOf: r.AsOf}}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		return nil, fault.New(fault.Invalid, "from has to be before to").WithCode("range_invalid")
	}
	for i := range d.Schema {
		if len(r.Columns) == 0 {
			p.columns = append(p.columns, i)
		}
	}
	for _, name := range r.Columns {
		i := d.Schema.Index(name)
		if i < 0 {
			return nil, unknownColumn(d.Schema, name)
		}
		p.columns = append(p.columns, i)
	}
	for _, i := range p.columns {
		p.schema = append(p.schema, d.Schema[i])
	}
	if err := p.schema.Check(); err != nil {
		return nil, err
	}
	var err error
	if len(r.Filters) > 0 {
		if p.keep, err = compile(d.Schema, r.Filters); err != nil {
			return nil, err
		}
	}
	if p.sort, err = r.order(p.schema); err != nil {
		return nil, err
	}
	p.options, err = r.encoding(d)
	return p, err
}

// order returns the keys that rows are sorted by.
func (r *Request) order(s table.Schema) (keys []sorter.Key, err error) {
	if len(r.Sort) > MaxSort {
		return nil, fault.New(fault.Invalid, "an export is sorted by at most %d columns, not %d", MaxSort, len(r.Sort)).WithCode("sort_invalid")
	}
	for i, by := range r.Sort {
		column := s.Index(by.Column)
		switch {
		case column < 0:
			return nil, fault.New(fault.Invalid, "there is no column %q to sort by among those that are exported", fault.Clip(by.Column, 80)).WithCode("sort_invalid")
		case slices.ContainsFunc(keys, func(k sorter.Key) bool { return k.Column == column }):
			return nil, fault.New(fault.Invalid, "column %d to sort by, %s, is there before", i+1, by.Column).WithCode("sort_invalid")
		}
		keys = append(keys, sorter.Key{Column: column, Descending: by.Descending})
	}
	return keys, nil
}

func unknownColumn(s table.Schema, name string) error {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.Name
	}
	return fault.New(fault.Invalid, "there is no column %q: the dataset has %s", fault.Clip(name, 80), strings.Join(names, ", ")).WithCode("column_unknown")
}

// encoding is how the files are written, and what they say of themselves.
func (r *Request) encoding(d *Dataset) (encode.Options, error) {
	o := r.Options
	zone, err := time.LoadLocation(o.TimeZone)
	if err != nil || o.TimeZone == "Local" {
		return encode.Options{}, fault.New(fault.Invalid, "there is no time zone %q: use a name such as Europe/Berlin, or leave it out for UTC", fault.Clip(o.TimeZone, 80)).WithCode("time_zone_unknown")
	}
	options := encode.Options{Format: r.Format, Compression: o.Compression, Zone: zone, SheetRows: o.SheetRows,
		CSV: csv.Options{BOM: o.BOM, Null: o.Null, RawFormulas: o.RawFormulas}}
	if options.CSV.Delimiter, err = character("delimiter", o.Delimiter); err != nil {
		return options, err
	}
	if options.CSV.Decimal, err = character("decimal", o.Decimal); err != nil {
		return options, err
	}
	filters, err := json.Marshal(r.Filters)
	if err != nil {
		return options, fault.Wrap(fault.Invalid, err, "the filters cannot be written down")
	}
	options.About = [][2]string{{"dataset", d.Name}, {"about", d.About}, {"as_of", r.AsOf.UTC().Format(time.RFC3339Nano)}, {"time zone", zone.String()}}
	for _, bound := range []struct {
		name string
		at   time.Time
	}{{"from", r.From}, {"to", r.To}} {
		if !bound.at.IsZero() {
			options.About = append(options.About, [2]string{bound.name, bound.at.UTC().Format(time.RFC3339Nano)})
		}
	}
	if len(r.Sort) > 0 {
		options.About = append(options.About, [2]string{"sorted by", r.sorted()})
	}
	if len(r.Filters) > 0 {
		options.About = append(options.About, [2]string{"filters", string(filters)})
	}
	return options, options.Check()
}

// sorted says what an export is sorted by.
func (r *Request) sorted() string {
	names := make([]string, len(r.Sort))
	for i, by := range r.Sort {
		if names[i] = by.Column; by.Descending {
			names[i] += " descending"
		}
	}
	return strings.Join(names, ", ")
}

func character(name, text string) (byte, error) {
	switch {
	case text == "":
		return 0, nil
	case text == `\t`:
		return '\t', nil
	case len(text) == 1:
		return text[0], nil
	}
	return 0, fault.New(fault.Invalid, "%s is %q: one character is expected", name, fault.Clip(text, 20)).WithCode("option_invalid")
}
