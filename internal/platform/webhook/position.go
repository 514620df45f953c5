package webhook

import (
	"context"
	"errors"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
)

// Position is up to where the stream of events has been matched with endpoints.
type Position struct {
	aggregate.Root[positionID]
	Epoch string `json:"epoch"` // of the stream; "" before anything was matched
	Next  uint64 `json:"next"`  // the sequence of what is matched next
}

type positionID string

// there is one position, of the only stream of events.
const onlyPosition positionID = "events"

// positions keeps it. It belongs to no tenant.
var positions = repo.Kind[positionID, Position]{Name: "webhook_positions", Root: func(p *Position) *aggregate.Root[positionID] { return &p.Root }}

var positionScope = repo.Scope{Actor: "system"}

// Matched returns the position, which is zero before one was kept.
func Matched(ctx context.Context, s *repo.Store) (Position, error) {
	p, err := positions.Get(ctx, s.Read(positionScope), onlyPosition)
	if errors.Is(err, repo.ErrNotFound) {
		return Position{}, nil
	}
	return p, err
}

// Keep keeps the position, unless one further on is kept: who is late moves nobody
// back.
func (p Position) Keep(ctx context.Context, s *repo.Store) error {
	return s.Do(ctx, positionScope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := positions.Update(ctx, tx, onlyPosition, func(kept *Position) error {
			if kept.Epoch != p.Epoch || kept.Next < p.Next {
				kept.Epoch, kept.Next = p.Epoch, p.Next
			}
			return nil
		})
		if !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		first := &Position{Epoch: p.Epoch, Next: p.Next}
		first.ID = onlyPosition
		return positions.Add(ctx, tx, first)
	})
}
