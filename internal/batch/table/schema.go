// Package table holds rows as batch processing reads and writes them: a Schema
// of named, typed fields, and Chunks of rows, column by column. Decoders fill a
// chunk, encoders write it out, and nothing in between looks at single cells.
//
// A chunk is reused: after Reset its columns keep their memory, so that a file
// of any size passes through that of one chunk.
package table

import (
	"context"
	"strings"
	"unicode/utf8"

	"sluice/internal/platform/fault"
)

// Type is what the cells of a column are.
type Type uint8

// The types. The zero value is none of them.
const (
	String  Type = iota + 1 // UTF-8 text: Column.Text
	JSON                    // text that is one JSON value: Column.Text
	Int                     // 64-bit integers: Column.Ints
	Float                   // 64-bit floats: Column.Floats
	Float32                 // 32-bit floats: Column.Float32s
	Bool                    // Column.Bools
	Time                    // instants, microseconds since 1970 UTC: Column.Ints
)

var typeNames = [...]string{"", "string", "json", "int", "float", "float32", "bool", "time"}

// String returns the name of the type, as manifests and the API say it.
func (t Type) String() string {
	if int(t) < len(typeNames) && t > 0 {
		return typeNames[t]
	}
	return "invalid"
}

// Field is a column's name and type.
type Field struct {
	Name string
	Type Type
	// Items says of a JSON column whose cells are flat lists of what its values are: String, Int,
	// Float, Float32 or Bool, and zero where that varies. What has lists writes them as such.
	Items Type `json:",omitempty"`
}

// Schema is the fields of a table, in order. It is not changed after its first
// use.
type Schema []Field

// MaxColumns is how many columns a table can have: as many as a spreadsheet.
const MaxColumns = 16384

// MaxName is how many bytes a column's name can have.
const MaxName = 255

// Check returns what is wrong with a schema, as a fault of kind Invalid: no
// columns or too many, a type that is none, a name that is empty, too long, not
// UTF-8, has a control character, or is there twice.
func (s Schema) Check() error {
	if len(s) == 0 || len(s) > MaxColumns {
		return fault.New(fault.Invalid, "a table has between 1 and %d columns, this one has %d", MaxColumns, len(s)).WithCode("table_invalid")
	}
	seen := make(map[string]int, len(s))
	for i, f := range s {
		first, twice := seen[f.Name]
		seen[f.Name] = i
		var why string
		switch {
		case f.Name == "":
			why = "has no name"
		case len(f.Name) > MaxName:
			why = "has too long a name: at most 255 bytes"
		case !utf8.ValidString(f.Name):
			why = "has a name that is not UTF-8"
		case strings.ContainsFunc(f.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
			why = "has a control character in its name"
		case f.Type < String || f.Type > Time:
			why = "has a type that does not exist"
		case f.Items != 0 && (f.Type != JSON || f.Items == JSON || f.Items >= Time):
			why = "has items that lists cannot have"
		case twice:
			return fault.New(fault.Invalid, "columns %d and %d are both called %q: names must differ", first+1, i+1, f.Name).WithCode("table_invalid")
		default:
			continue
		}
		return fault.New(fault.Invalid, "column %d (%q) %s", i+1, fault.Clip(f.Name, 80), why).WithCode("table_invalid")
	}
	return nil
}

// Index returns where the field of a name is, and -1 where there is none.
func (s Schema) Index(name string) int {
	for i, f := range s {
		if f.Name == name {
			return i
		}
	}
	return -1
}

// Reader yields a table chunk by chunk.
type Reader interface {
	// Schema returns what Read's chunks must have been made with.
	Schema() Schema
	// Read resets the chunk and fills it with the next rows, at least one, or
	// returns io.EOF after the last. After any error the chunk holds nothing
	// that counts.
	Read(ctx context.Context, into *Chunk) error
}

// Writer takes a table chunk by chunk, and is not for concurrent use.
type Writer interface {
	// Write encodes the chunk's rows. It keeps nothing of the chunk.
	Write(*Chunk) error
	// Close ends the output, which is not whole without it, but does not close
	// what is underneath.
	Close() error
}
