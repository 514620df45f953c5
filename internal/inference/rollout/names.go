package rollout

import (
	"context"

	"sluice/internal/inference/route"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// read makes the names of all models of what the store has.
func (f *Follower) read(ctx context.Context) (map[string]route.Names, error) {
	names, from := map[string]route.Names{}, f.store.Read(repo.Scope{})
	for query := (spec.Query[Alias]{Limit: spec.MaxLimit}); ; {
		page, err := Aliases.Find(ctx, from, query)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			add(names, &page.Items[i].State)
		}
		if query.After = page.Next; query.After == "" {
			return names, nil
		}
	}
}

// add adds an alias to the names of its model.
func add(names map[string]route.Names, a *Alias) {
	if !a.Exists {
		return
	}
	of := names[a.Model]
	if of == nil {
		of = route.Names{}
		names[a.Model] = of
	}
	of[a.Name] = route.Name{Version: a.Version}
	if a.Name == route.Default {
		of[""] = of[a.Name]
	}
}
