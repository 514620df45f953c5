package job

import "time"

// Rows are some rows of a chunk that follow each other: From is the first, and To the
// one behind the last.
type Rows struct {
	From int `json:"f"`
	To   int `json:"t"`
}

// Has says whether a row is among them.
func (r Rows) Has(row int) bool { return r.From <= row && row < r.To }

// Danger is what is known of a chunk at which workers died. A row that ends the process
// is found by the notes that workers make of what they run, once it has happened so
// often that it may be the rows: first among those of a run, then alone, and twice.
type Danger struct {
	Deaths  int   `json:"n"`           // since anything was learnt of them
	Running Rows  `json:"r,omitzero"`  // what the worker runs, by its last note
	Suspect Rows  `json:"s,omitzero"`  // what a worker died of, perhaps
	Deadly  []int `json:"d,omitempty"` // the rows that are not run any more, ascending by when that was found
}

// How many workers die at a chunk before the next one makes notes, and how many rows of
// a batch may end them before it fails.
const (
	deathsBefore = 3
	MaxDeadly    = 3
)

// Careful says whether a worker that runs the chunk has to note what it runs.
func (c *Chunk) Careful() bool {
	return c.Danger != nil && (c.Danger.Deaths >= deathsBefore || c.Danger.Suspect != Rows{} || len(c.Danger.Deadly) > 0)
}

// bury notes that the worker died which had the chunk.
func (c *Chunk) bury() {
	if c.Danger == nil {
		c.Danger = &Danger{}
	}
	d := c.Danger
	running := d.Running
	d.Running, c.Taken = Rows{}, false
	d.Deaths++
	none, alone := Rows{}, running.To-running.From == 1
	learnt := d.Suspect == none || d.Suspect.Has(running.From) && running != d.Suspect
	switch {
	case running == none:
		return
	case running == d.Suspect && alone: // the second time
		d.Deadly, d.Suspect, learnt = append(d.Deadly, running.From), none, true
	default:
		d.Suspect = running
	}
	if learnt { // else workers die of something else
		d.Deaths, c.Tries = 0, 0
	}
}

// free says that no worker has the chunk, and none died.
func (c *Chunk) free() {
	if c.Taken = false; c.Danger != nil {
		c.Danger.Running = Rows{}
	}
}

// settle keeps of the danger only the rows that are not to be run again.
func (c *Chunk) settle() {
	if c.free(); c.Danger == nil {
		return
	}
	deadly := c.Danger.Deadly
	if c.Danger = nil; len(deadly) > 0 {
		c.Danger = &Danger{Deadly: deadly}
	}
}

// deadly is how many rows of the batch are not run because of what they do.
func (b *Batch) deadly() (n int) {
	for i := range b.Chunks {
		if d := b.Chunks[i].Danger; d != nil {
			n += len(d.Deadly)
		}
	}
	return n
}

// Note says which rows of a chunk the worker runs now, see Danger.
func (b *Batch) Note(c Claim, rows Rows, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	chunk := &b.Chunks[c.Chunk]
	if chunk.Danger != nil {
		chunk.Danger.Running = rows
	}
	chunk.Until = now.Add(t.Lease)
	b.look(chunk.Until)
	return nil
}
