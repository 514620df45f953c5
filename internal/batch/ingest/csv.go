package ingest

// records are rows of CSV.
type records struct {
	scan    *scanner
	decimal bool  // numbers have decimal commas
	places  []int // of the wanted columns in a row
	columns int   // that each row has
	cells   [][]byte
	stripe  *stripe // nil: there is none
}

func newRecords(f *File, s *scanner, wanted []string, spec *Spec) *records {
	r := &records{scan: s, stripe: newStripe(f, spec), decimal: f.Dialect.Decimal == ",", columns: len(f.Columns), places: make([]int, len(wanted))}
	all := placesOf(f.Columns)
	for i, name := range wanted {
		r.places[i] = all(name)
	}
	return r
}

func (r *records) take(record []byte) (wrong *RowError) {
	if r.stripe != nil {
		r.stripe.data = r.stripe.data[:0]
	}
	if r.cells, wrong = r.scan.split(record, r.cells); wrong != nil {
		return wrong
	}
	if len(r.cells) != r.columns {
		return bad(CodeRagged, "the row has %d cells, expected %d", len(r.cells), r.columns)
	}
	return nil
}

func (r *records) cell(column int) []byte { return r.cells[r.places[column]] }

func (r *records) element(dst []byte, t Type, cell []byte) ([]byte, *RowError) {
	if r.decimal && (t == "FP32" || t == "FP64") {
		cell = commas(cell)
	}
	return appendText(dst, t, cell)
}

func (r *records) list(dst []byte, t Type, width int, cell []byte) ([]byte, *RowError) {
	return appendList(dst, t, width, cell)
}

func (r *records) text(cell []byte) ([]byte, *RowError) { return cell, nil }
