package audit

import (
	"fmt"
	"io"
	"time"
)

// Report is what Verify found out about a copy of a log.
type Report struct {
	Origin      string    `json:"origin"`
	Size        int64     `json:"size"`    // entries that the checkpoint covers
	Root        string    `json:"root"`    // base64, as in the checkpoint
	Entries     int64     `json:"entries"` // found and decoded
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`  // the latest time of an entry
	Compared    int       `json:"compared"`       // checkpoints from elsewhere that the copy continues
	Witnessed   int64     `json:"witnessed"`      // entries that a quorum of witnesses has cosigned
	Unpublished int       `json:"unpublished"`    // files beyond the checkpoint, left by a writer at work
	Found       int       `json:"problems_found"` // Problems holds the first hundred
	Problems    []Problem `json:"problems"`
}

// Problem is one thing that is wrong.
type Problem struct {
	Code    string `json:"code"`
	File    string `json:"file"`
	Message string `json:"message"`
}

// The codes of problems.
const (
	BadCheckpoint = "checkpoint" // missing, malformed or not signed by the log
	BadEntry      = "entry"      // a bundle or an entry that cannot be decoded or was changed
	BadTile       = "tile"       // hashes that are missing or do not follow from the entries
	BadRoot       = "root"       // the entries are not those that were signed
	Duplicate     = "duplicate"  // an id that is logged twice
	Forked        = "fork"       // another checkpoint says that the history was different
	Truncated     = "truncated"  // another checkpoint says that the log was longer
	NoQuorum      = "witness"    // too few witnesses have signed
	Unexpected    = "unexpected" // a file that no log has
)

// OK reports whether the copy is whole and unchanged.
func (r *Report) OK() bool { return r.Found == 0 }

const keptProblems = 100

func (r *Report) add(code, file, format string, args ...any) {
	r.Found++
	if len(r.Problems) < keptProblems {
		r.Problems = append(r.Problems, Problem{code, file, fmt.Sprintf(format, args...)})
	}
}

// write prints the report for people.
func (r *Report) write(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("log        %s", r.Origin)
	p("size       %d, root %s", r.Size, r.Root)
	p("entries    %d decoded", r.Entries)
	if !r.First.IsZero() {
		p("from, to   %s, %s", r.First.Format(layout), r.Last.Format(layout))
	}
	p("compared   with %d checkpoints from elsewhere", r.Compared)
	p("witnessed  %d entries", r.Witnessed)
	if r.Compared == 0 && r.Witnessed == 0 {
		p("           nothing shows that the log was not cut or rewritten by its owner: give -saved or -witness")
	}
	if r.Unpublished > 0 {
		p("beyond     %d files of batches that are not published yet", r.Unpublished)
	}
	for _, problem := range r.Problems {
		p("PROBLEM    %s: %s: %s", problem.Code, problem.File, problem.Message)
	}
	if r.OK() {
		p("VERIFIED")
	} else {
		p("NOT VERIFIED: %d problems", r.Found)
	}
}
