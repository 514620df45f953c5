package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Model sums up the versions of a model, for lists of models. The versions are the truth: no
// unit of work spans a version and its model, so the model is brought up to date after each
// change of a version (see Service.summarise), and by Reconcile where that failed. A model
// without versions is deleted until it has one again.
type Model struct {
	aggregate.Root[LedgerID]
	Name string `json:"name"`
	// Stages has the numbers of the versions, ascending, by stage.
	Stages map[Stage][]int64 `json:"stages"`
	Latest Latest            `json:"latest"` // the version with the greatest number
	// Since is when the first version was registered, Changed when one was last changed.
	Since   time.Time `json:"since"`
	Changed time.Time `json:"changed"`
	// Read counts the readings of versions. Each reading writes it, even where nothing is new, so
	// that another at the same time, which may have read older versions, conflicts.
	Read int64 `json:"read"`
}

// Latest is what is shown of a model's latest version.
type Latest struct {
	Number     int64             `json:"number"`
	Revision   int64             `json:"revision"` // of the aggregate
	Stage      Stage             `json:"stage"`
	Digest     string            `json:"digest"`
	SHA256     string            `json:"sha256"`
	Graph      bool              `json:"graph,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Registered time.Time         `json:"registered"`
}

// Models keeps them.
var Models = repo.Kind[LedgerID, Model]{
	Name: "models", Root: func(m *Model) *aggregate.Root[LedgerID] { return &m.Root },
	Columns: []spec.Column[Model]{nameField},
}

var nameField = spec.TextField("name", func(m *Model) string { return m.Name })

// Versions returns how many there are.
func (m *Model) Versions() (n int) {
	for _, numbers := range m.Stages {
		n += len(numbers)
	}
	return n
}

// stages returns the stage of each version.
func (m *Model) stages() map[int64]Stage {
	all := map[int64]Stage{}
	for stage, numbers := range m.Stages {
		for _, n := range numbers {
			all[n] = stage
		}
	}
	return all
}

// greatest returns the greatest number, 0 where there is none.
func (m *Model) greatest() (n int64) {
	for _, numbers := range m.Stages {
		n = max(n, numbers[len(numbers)-1])
	}
	return n
}

// put notes a version as it is now.
func (m *Model) put(v *Version) {
	m.drop(v.Number)
	if m.Stages == nil {
		m.Stages = map[Stage][]int64{}
	}
	numbers := m.Stages[v.Stage]
	at, _ := slices.BinarySearch(numbers, v.Number)
	m.Stages[v.Stage] = slices.Insert(numbers, at, v.Number)
	if m.Changed.Before(v.UpdatedAt) {
		m.Changed = v.UpdatedAt
	}
	if v.Number >= m.Latest.Number {
		m.Latest = Latest{v.Number, v.Root.Version, v.Stage, v.Digest, v.SHA256, v.Graph(), v.Labels, v.Root.CreatedAt}
	}
}

// drop removes a version, and reports whether it was there.
func (m *Model) drop(number int64) bool {
	for stage, numbers := range m.Stages {
		at, there := slices.BinarySearch(numbers, number)
		if !there {
			continue
		}
		if m.Stages[stage] = slices.Delete(numbers, at, at+1); len(m.Stages[stage]) == 0 {
			delete(m.Stages, stage)
		}
		return true
	}
	return false
}

// behind brings the model of a version up to date after the commit.
func (s *Service) behind(ctx context.Context, tx *repo.Tx, v *Version) {
	model, number := v.Model, v.Number
	tx.AfterCommit(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := s.summarise(ctx, model, number); err != nil {
			s.cfg.Log.WarnContext(ctx, "a list of models does not show yet what a version is now; that is mended within the hour", "model", model, "version", number, "error", err)
		}
	})
}

// summarise brings a model up to date with versions of it. It reads the model before the
// versions, so that of two at the same time the one with older versions conflicts, and runs
// again.
func (s *Service) summarise(ctx context.Context, model string, numbers ...int64) error {
	for attempt := 1; ; attempt++ {
		err := s.store.Do(ctx, repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
			m, err := Models.Restore(ctx, tx, ledgerID(model))
			missing := errors.Is(err, repo.ErrNotFound)
			if missing {
				m, err = newModel(ctx, tx, model)
			}
			if err == nil {
				err = m.read(ctx, tx, numbers)
			}
			switch {
			case err != nil || missing && m.Versions() == 0:
				return err
			case missing:
				return Models.Add(ctx, tx, &m)
			}
			return m.keep(ctx, tx)
		})
		if !errors.Is(err, repo.ErrExists) || attempt == namingAttempts {
			return err
		}
	}
}

func newModel(ctx context.Context, from repo.Reading, name string) (Model, error) {
	m := Model{Name: name}
	m.ID = ledgerID(name)
	l, err := Ledgers.Get(ctx, from, m.ID)
	m.Since = l.CreatedAt
	return m, err
}

// read notes versions as they are, and the latest version.
func (m *Model) read(ctx context.Context, tx *repo.Tx, numbers []int64) error {
	m.Read++
	for {
		for _, n := range numbers {
			v, err := Versions.Get(ctx, tx, IDOf(m.Name, n))
			switch {
			case err == nil:
				m.put(&v)
			case !errors.Is(err, repo.ErrNotFound):
				return err
			case m.drop(n):
				m.Changed = tx.Now()
			}
		}
		latest := m.greatest()
		if latest == m.Latest.Number {
			return nil
		}
		m.Latest, numbers = Latest{}, []int64{latest}
		if latest == 0 {
			return nil
		}
	}
}

// keep stores the model, and deletes it if it has no version.
func (m *Model) keep(ctx context.Context, tx *repo.Tx) error {
	stored, err := Models.Update(ctx, tx, m.ID, func(old *Model) error {
		m.Root = old.Root
		*old = *m
		return nil
	})
	if err == nil && stored.Versions() == 0 {
		err = Models.Delete(ctx, tx, m.ID)
	}
	return err
}

// summarised is how many versions one unit of work of Reconcile reads.
const summarised = 100

// Reconcile brings all models up to date that do not agree with their versions: a process
// ended between the two commits, or was too old to know of models.
func (s *Service) Reconcile(ctx context.Context) error {
	models := map[string]*Model{}
	from := s.store.Read(repo.Scope{})
	for v, err := range Versions.All(ctx, from, spec.Query[Version]{Order: modelField.Asc(), Limit: summarised}) {
		if err != nil {
			return err
		}
		m := models[v.Model]
		if m == nil {
			m = &Model{Name: v.Model}
			models[v.Model] = m
		}
		m.put(&v)
	}
	stale := map[string][]int64{}
	for m, err := range Models.All(ctx, from, spec.Query[Model]{Order: nameField.Asc(), Limit: summarised}) {
		if err != nil {
			return err
		}
		stale[m.Name] = m.differs(cmp.Or(models[m.Name], &Model{}))
		delete(models, m.Name)
	}
	for name, m := range models {
		stale[name] = m.differs(&Model{})
	}
	var errs []error
	for name, numbers := range stale {
		for part := range slices.Chunk(numbers, summarised) {
			errs = append(errs, s.summarise(ctx, name, part...))
		}
	}
	return errors.Join(errs...)
}

// differs returns the numbers of the versions that are not the same in both.
func (m *Model) differs(other *Model) []int64 {
	mine, theirs := m.stages(), other.stages()
	differ := map[int64]bool{}
	for n := range mine {
		differ[n] = mine[n] != theirs[n]
	}
	for n := range theirs {
		differ[n] = mine[n] != theirs[n]
	}
	if m.Latest.Revision != other.Latest.Revision {
		differ[other.Latest.Number] = other.Latest.Number > 0
	}
	maps.DeleteFunc(differ, func(_ int64, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(differ))
}
