package exporthttp

import (
	"context"
	"net/http"

	"sluice/internal/batch/export"
	"sluice/internal/batch/export/schedule"
	"sluice/internal/platform/access"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// scheduleProblems are the failures that only occur with schedules.
func scheduleProblems() []problem.Type {
	return []problem.Type{
		{Code: "cron_invalid", Title: "The cron expression cannot be understood", Fix: "Give minute, hour, day of month, month and day of week, such as 0 6 * * 1-5, or @daily."},
		{Code: "schedule_invalid", Title: "The schedule makes no sense", Fix: "Change what detail says, or leave it out."},
		{Code: "schedule_quota", Title: "The tenant has as many schedules as it may", Fix: "Delete one that is not needed."},
		{Code: "schedule_owner", Title: "A schedule needs an owner whose rights can be asked for", Fix: "Make or change it with an API key, or signed in with a password."},
		{Code: "export_running", Title: "The export of the time before has not ended", Fix: "Wait for its end, or let exports overlap."},
	}
}

// NewSchedule is what makes a schedule.
type NewSchedule struct {
	Name     string    `json:"name,omitempty" maxLength:"255" doc:"A name of the client's own, which its exports get."`
	Cron     string    `json:"cron" minLength:"1" maxLength:"200" doc:"Minute, hour, day of month, month and day of week, such as 0 6 * * 1-5, or @hourly, @daily, @weekly, @monthly."`
	TimeZone string    `json:"time_zone,omitempty" maxLength:"64" doc:"On whose clocks, such as Europe/Berlin; UTC where left out. A time that they skip is when they go on, one that they show twice is the first."`
	Window   bool      `json:"window,omitempty" doc:"Each export has the rows with a time from the end of the one before up to its own, in place of from and to."`
	Missed   string    `json:"missed,omitempty" enum:"latest,all,skip" doc:"What becomes of times that nobody was there for: the last is made up for, each is, or none that is more than 10 minutes ago; latest where left out."`
	Overlap  string    `json:"overlap,omitempty" enum:"skip,run" doc:"What becomes of a time at which the export before has not ended: no export, or one beside it; skip where left out."`
	Paused   bool      `json:"paused,omitempty"`
	Export   NewExport `json:"export" doc:"What is exported; without as_of, which is the time of each export. Its name is the schedule's."`
}

// ScheduleChange is what is to be different; what is left out stays.
type ScheduleChange struct {
	Name     *string    `json:"name,omitempty" maxLength:"255"`
	Cron     *string    `json:"cron,omitempty" minLength:"1" maxLength:"200"`
	TimeZone *string    `json:"time_zone,omitempty" maxLength:"64"`
	Window   *bool      `json:"window,omitempty"`
	Missed   *string    `json:"missed,omitempty" enum:"latest,all,skip"`
	Overlap  *string    `json:"overlap,omitempty" enum:"skip,run"`
	Paused   *bool      `json:"paused,omitempty" doc:"Times that pass while it is paused are not made up for."`
	Export   *NewExport `json:"export,omitempty"`
}

// Schedule is what is shown of one.
type Schedule struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	NewSchedule

	Owner      string     `json:"owner" doc:"In whose name its exports are made: by what that one may at their time."`
	NextRuns   []api.Time `json:"next_runs" doc:"The next times; none while it is paused."`
	LastRun    *Run       `json:"last_run,omitempty"`
	MissedRuns int64      `json:"missed_runs" doc:"Times for which no export was made."`
	CreatedAt  api.Time   `json:"created_at"`
	UpdatedAt  api.Time   `json:"updated_at"`
}

// Run is what came of a time.
type Run struct {
	At      api.Time     `json:"at"`
	Outcome string       `json:"outcome" enum:"made,failed,waiting"`
	Export  string       `json:"export,omitempty"`
	Error   *ExportError `json:"error,omitempty" doc:"What was in the way; where it is waiting, it is tried again."`
}

type scheduleOut struct {
	ETag string `header:"ETag"`
	Body Schedule
}

type schedulesOut struct{ Body api.Page[Schedule] }

type scheduleChangeIn struct {
	ID string `path:"id" maxLength:"64"`
	api.IfMatch
	Body ScheduleChange
}

// schedules serves schedules.
type schedules struct{ service *schedule.Service }

// RegisterSchedules adds the operations on schedules to the API.
func RegisterSchedules(a *api.API, s *schedule.Service) {
	e := schedules{s}
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: "/export-schedules" + path, Summary: summary, Tags: []string{"exports"}, Permission: permission}
	}
	create := op("create-export-schedule", http.MethodPost, "", "Export again and again", export.Write)
	create.Description = "Each export is made in the name of who makes the schedule, by what that one may at that time. Of each time there is one export at most, whatever fails."
	create.Status, create.Idempotency = http.StatusCreated, api.KeyOptional
	api.Register(a, create, e.create)
	api.Register(a, op("get-export-schedule", http.MethodGet, "/{id}", "Read an export schedule", export.Read), e.get)
	api.Register(a, op("list-export-schedules", http.MethodGet, "", "List export schedules", export.Read), e.list)
	change := op("change-export-schedule", http.MethodPatch, "/{id}", "Change, pause or resume an export schedule", export.Write)
	change.Description = "Who changes it owns it from then on."
	api.Register(a, change, e.change)
	api.Register(a, op("delete-export-schedule", http.MethodDelete, "/{id}", "Delete an export schedule; its exports stay", export.Write), e.delete)
}

func (e schedules) create(ctx context.Context, in *struct{ Body NewSchedule }) (*scheduleOut, error) {
	return e.sent(e.service.Create(ctx, in.Body.plan()))
}

func (e schedules) get(ctx context.Context, in *idIn) (*scheduleOut, error) {
	return e.sent(e.service.Find(ctx, schedule.ID(in.ID)))
}

func (e schedules) change(ctx context.Context, in *scheduleChangeIn) (*scheduleOut, error) {
	c := schedule.Change{ID: schedule.ID(in.ID), Patch: in.Body.patch()}
	var err error
	if c.Version, c.Any, err = in.Version(); err != nil {
		return nil, err
	}
	return e.sent(e.service.Change(ctx, c))
}

func (e schedules) delete(ctx context.Context, in *idIn) (*struct{}, error) {
	return nil, e.service.Delete(ctx, schedule.ID(in.ID))
}

func (e schedules) list(ctx context.Context, in *api.PageQuery) (*schedulesOut, error) {
	page, err := e.service.List(ctx, spec.Query[schedule.Schedule]{Limit: in.Limit, After: in.Cursor})
	if err != nil {
		return nil, err
	}
	views := make([]Schedule, len(page.Items))
	for i := range page.Items {
		views[i] = e.view(&page.Items[i])
	}
	return &schedulesOut{api.NewPage(views, page.Next)}, nil
}

func (e schedules) sent(x *schedule.Schedule, err error) (*scheduleOut, error) {
	if err != nil {
		return nil, err
	}
	return &scheduleOut{api.ETag(x.Version), e.view(x)}, nil
}

func (n *NewSchedule) plan() schedule.Plan {
	return schedule.Plan{Name: n.Name, Cron: n.Cron, TimeZone: n.TimeZone, Request: n.Export.request(), Window: n.Window,
		Missed: schedule.Missed(n.Missed), Overlap: schedule.Overlap(n.Overlap), Paused: n.Paused}
}

// patch is what is to be different.
func (c *ScheduleChange) patch() schedule.Patch {
	p := schedule.Patch{Name: c.Name, Cron: c.Cron, TimeZone: c.TimeZone, Window: c.Window, Missed: (*schedule.Missed)(c.Missed), Overlap: (*schedule.Overlap)(c.Overlap), Paused: c.Paused}
	if c.Export != nil {
		p.Request = new(c.Export.request())
	}
	return p
}

// shown is how many of the next times are shown.
const shown = 5

func (e schedules) view(x *schedule.Schedule) Schedule {
	p := x.Plan
	v := Schedule{ID: string(x.ID), Object: "export_schedule", Owner: x.Owner.Subject, MissedRuns: x.Missed, NextRuns: []api.Time{},
		NewSchedule: NewSchedule{p.Name, p.Cron, p.TimeZone, p.Window, string(p.Missed), string(p.Overlap), p.Paused, requested(&p.Request)},
		CreatedAt:   api.Time{Time: x.CreatedAt}, UpdatedAt: api.Time{Time: x.UpdatedAt}}
	for _, at := range x.Upcoming(shown) {
		v.NextRuns = append(v.NextRuns, api.Time{Time: at})
	}
	if f := x.Last; f != nil {
		v.LastRun = &Run{At: api.Time{Time: f.Time}, Outcome: string(f.Outcome), Export: string(f.Export)}
		if f.Code != "" {
			v.LastRun.Error = &ExportError{f.Code, f.Message}
		}
	}
	return v
}
