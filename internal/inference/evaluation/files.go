package evaluation

import (
	"context"

	"sluice/internal/platform/fault"
)

// Upload is a file of rows as a client names it.
type Upload struct {
	ID       string
	Format   string              // of those that batches read; empty: told by the content
	RowID    string              // the column with the row's name; empty: rows are told by their number
	Columns  map[string][]string // by inputs, of what they are made; by default of the column of their name
	Segments []string            // columns that segments are told apart by
}

// Files are uploads as cases.
type Files interface {
	// Take checks that an upload has what a version takes, and keeps a copy of it for an
	// evaluation, below Folder.
	Take(ctx context.Context, tenant string, id ID, in Upload, v *Served) (*File, error)
	// Open goes through the rows of a file.
	Open(ctx context.Context, f *File) (Cases, error)
}

// Other is the error of a version that is not the one that was chosen.
func Other(v Version) error {
	return fault.New(fault.Unprocessable, "version %s has another file than when the evaluation began: evaluate again", v.Number).WithCode(codeChanged)
}
