package table_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
)

// Blocks hold the rows that they were made of.
func TestBlocks(t *testing.T) {
	c, back := table.NewChunk(tabletest.Plain), table.NewChunk(tabletest.Plain)
	for _, rows := range []int{300, 0, 8, 1} {
		tabletest.FillPlain(c, 0, rows)
		if rows > 7 {
			c.Column(1).SetNull(7)
		}
		if err := back.ReadBlock(c.AppendBlock(nil)); err != nil || back.Check() != nil {
			t.Fatal(err, back.Check())
		}
		if diff := cmp.Diff(tabletest.Rows(c), tabletest.Rows(back)); diff != "" {
			t.Error(rows, diff)
		}
	}
}

// Whatever is read as a block, rows come out or an error does.
func FuzzReadBlock(f *testing.F) {
	schema := table.Schema{{Name: "a", Type: table.String}, {Name: "b", Type: table.Int}, {Name: "c", Type: table.Float}, {Name: "d", Type: table.Float32}, {Name: "e", Type: table.Bool}}
	c := table.NewChunk(schema)
	c.Column(0).AppendString("x")
	c.Column(1).AppendInt(-5)
	c.Column(2).AppendFloat(1.5)
	c.Column(3).AppendNull()
	c.Column(4).AppendBool(true)
	f.Add(c.AppendBlock(nil))
	f.Add([]byte{255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		back := table.NewChunk(schema)
		if err := back.ReadBlock(b); err == nil && back.Check() != nil || err != nil && back.Rows() != 0 {
			t.Error(err, back.Check(), back.Rows())
		}
	})
}
