package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/platform/fault"
)

// runGraph answers a request by its version's graph.
func (s *Server) runGraph(ctx context.Context, v *Version, c *call) (batcher.Timing, error) {
	if !c.task.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.task.Deadline)
		defer cancel()
	}
	_ = c.asker.Value(experiment.RequestID, "") // draws an id now: nodes ask for it at the same time
	began := time.Now()
	defer s.keep(v.runtime.graph)()
	result, err := v.runtime.graph.Run(ctx, graph.Request{
		Inputs: c.part.Inputs, Rows: c.part.Rows, Memory: s.holding(c),
		Value: func(from experiment.Source, name string) string { return c.asker.Value(from, name) },
	}, &nodes{s, c})
	took := time.Since(began)
	v.Stats.Executions.Add(1)
	v.Stats.ObserveBatch(c.part.Rows, took)
	v.runtime.metrics.rows.Observe(float64(c.part.Rows))
	if err != nil {
		return batcher.Timing{}, err
	}
	c.result = result
	c.part.Outputs = append(c.part.Outputs, result.Outputs...)
	return batcher.Timing{Run: took, Rows: c.part.Rows}, nil
}

// nodes calls the models of a graph for one request to it.
type nodes struct {
	server *Server
	outer  *call
}

// Call implements graph.Caller. The request to a node's model goes the ordinary way, except
// that only the request to the graph is logged and charged.
func (n *nodes) Call(ctx context.Context, g *graph.Call) error {
	c := newCall()
	defer c.free()
	c.inner, c.holds = true, n.outer.holds
	return n.server.predict(ctx, &nodeCodec{g, n.outer}, c)
}

// nodeCodec is the Codec of a node.
type nodeCodec struct {
	*graph.Call
	outer *call
}

// Target implements Codec.
func (n *nodeCodec) Target() (name, version string) { return n.Model, n.Version }

// Value implements Asking: a node's model is chosen by the values of the request to the graph.
func (n *nodeCodec) Value(_ context.Context, from experiment.Source, name string) string {
	return n.outer.asker.Value(from, name)
}

// Decode implements Codec.
func (n *nodeCodec) Decode(ctx context.Context, v *Version, req *Request) error {
	if !offers(v.Signature.Inputs, n.Takes) || len(v.Signature.Inputs) != len(n.Takes) || !offers(v.Signature.Outputs, n.Gives) {
		return fault.New(fault.Unavailable, "version %s of model '%s' does not take and give what the graph was loaded for", v.Text, v.Name).WithCode("graph_model_changed")
	}
	req.Inputs = append(req.Inputs, n.Inputs...)
	req.Outputs = append(req.Outputs, n.Outputs...)
	req.Class, req.Tenant, req.ID = n.outer.request.Class, n.outer.request.Tenant, n.outer.request.ID
	req.AsOf = n.outer.request.AsOf
	if deadline, ok := ctx.Deadline(); ok {
		req.Timeout = max(time.Until(deadline), 1)
	}
	return nil
}

// offers reports whether all of some ports are among those of a version.
func offers(have, want []model.Port) bool {
	for i := range want {
		if !slices.ContainsFunc(have, func(p model.Port) bool {
			return p.Name == want[i].Name && p.Datatype == want[i].Datatype && len(p.Shape) == len(want[i].Shape)
		}) {
			return false
		}
	}
	return true
}

// Encode implements Codec: the graph keeps a copy of the answer.
func (n *nodeCodec) Encode(_ context.Context, _ *Version, resp *Response) error {
	n.Compute = resp.Use.Compute
	for _, t := range resp.Outputs {
		data, err := n.Alloc(len(t.Data))
		if err != nil {
			return err
		}
		copy(data, t.Data)
		t.Data, t.Shape = data, slices.Clone(t.Shape)
		n.Results = append(n.Results, t)
	}
	return nil
}

// openGraph makes a graph's file a version that is ready to serve.
func (s *Server) openGraph(src source) (*Version, error) {
	spec, err := model.ParseGraph(src.data, src.name+"/"+strconv.FormatInt(src.number, 10)+"/"+model.GraphFilename)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(src.data)
	v := &Version{Name: src.name, Number: src.number, Text: strconv.FormatInt(src.number, 10), SHA256: hex.EncodeToString(sum[:]), Stats: new(Stats)}
	g, err := graph.Compile(src.name, &spec, s.Member, s.observer(v))
	if err != nil {
		return nil, err
	}
	if src.agreed != nil && !src.agreed.Same(&g.Signature) {
		return nil, fault.New(fault.Unavailable, "with the models that are served now it takes %s and gives %s, not what it was registered with: have its models be as they were, or change its file (a comment will do) and register that as a new version",
			portsText(g.Signature.Inputs), portsText(g.Signature.Outputs)).WithCode("graph_model_changed")
	}
	config, sig, err := model.ResolveGraph(src.config, g.Signature, g.Batches, g.MaxRows)
	if err != nil {
		return nil, err
	}
	v.Signature, v.graph, v.Config = sig, &sig, config
	if v.logging, err = logging(v); err != nil {
		return nil, err
	}
	v.Batches, v.MaxRows = g.Batches, *config.MaxBatchSize
	if err := s.checkFallback(v); err != nil {
		return nil, err
	}
	v.runtime = machinery{graph: g, metrics: s.metrics.version(v), recorder: s.cfg.Recorder, closed: make(chan struct{})}
	v.CrossRequest = g.Batches && g.Independent
	v.Invariance = "a graph: each of its models batches by itself"
	v.serve()
	return v, nil
}

// Member returns a model as graphs see it: what requests for the version get now.
func (s *Server) Member(name, version string) (graph.Member, error) {
	v, err := s.Lookup(name, version)
	if err != nil {
		return graph.Member{}, err
	}
	if v.NeedsHeaders() {
		return graph.Member{}, fault.New(fault.Unsupported, "model '%s' finds the entity of its features in a header, which a graph's requests need not have: have it take the entity as an input", v.Name).WithCode("entity_missing")
	}
	m := graph.Member{
		Signature: v.Signature, Batches: v.Batches, MaxRows: v.MaxRows, Steps: v.Stateful() || v.Generative(),
		Independent: v.CrossRequest || v.offer != nil && v.offer.shared.Load(), // as it was when it was last loaded
		Number:      v.Number, SHA256: v.SHA256,
	}
	if v.runtime.graph != nil {
		m.Uses = v.runtime.graph.Uses
	}
	return m, nil
}

// observer measures the nodes of a graph.
func (s *Server) observer(v *Version) graph.Observer {
	labels := prometheus.Labels{"model": v.Name, "version": v.Text}
	times, errors := s.metrics.nodes.MustCurryWith(labels), s.metrics.nodeErrors.MustCurryWith(labels)
	return func(node string, took time.Duration, err error) {
		times.WithLabelValues(node).Observe(took.Seconds())
		if err != nil {
			errors.WithLabelValues(node, fault.CodeOf(err)).Inc()
		}
	}
}

func graphOf(e modelrepo.Entry, number int64) bool {
	return slices.ContainsFunc(e.Versions, func(v modelrepo.Version) bool { return v.Number == number && v.Graph })
}

func hasGraph(e modelrepo.Entry) bool {
	return slices.ContainsFunc(e.Chosen, func(number int64) bool { return graphOf(e, number) })
}

// changed has graphs and fallbacks checked against the new table.
func (s *Server) changed() {
	select {
	case s.stale <- struct{}{}:
	default:
	}
}

// followGraphs checks graphs and fallbacks after each change of the table, until ctx ends.
func (s *Server) followGraphs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.stale:
			s.bindGraphs(ctx)
			s.checkFallbacks(ctx)
		}
	}
}

// bindGraphs checks all graphs against the models that are served now. It repeats that until
// nothing changes any more, since graphs use graphs.
func (s *Server) bindGraphs(ctx context.Context) {
	for again := true; again && ctx.Err() == nil; {
		again = false
		var names []string
		s.update(func() {
			for name, m := range s.models {
				if len(m.graphs) > 0 || m.offersGraphs() {
					names = append(names, name)
				}
			}
		})
		slices.Sort(names)
		for _, name := range names {
			_ = s.exclusive(ctx, name, func(m *modelState) error { // it fails with ctx alone
				again = s.bind(ctx, name, m) || again
				again = s.bindOffers(ctx, name, m) || again
				return nil
			})
		}
	}
}

// bind checks the graphs of a model again. One that works with other tensors now is
// replaced; one that cannot work any more stays in service, so that requests are told what
// is missing. It returns whether anything was replaced.
func (s *Server) bind(ctx context.Context, name string, m *modelState) bool {
	var graphs map[int64]source
	next, problems := map[int64]*loaded{}, map[string]string{}
	s.update(func() {
		graphs = m.graphs
		for number, l := range m.live {
			next[number] = l
		}
		for version, problem := range m.problems {
			problems[version] = problem
		}
	})
	swapped := false
	for number, src := range graphs {
		text, old := strconv.FormatInt(number, 10), next[number]
		v, err := s.openGraph(src)
		switch {
		case err != nil && problems[text] != describeProblem(err):
			problems[text] = describeProblem(err)
			s.cfg.Log.ErrorContext(ctx, "a graph cannot work with the models that are served", "model", name, "version", text, "error", err)
		case err != nil:
		case old != nil && v.alike(old.version):
			delete(problems, text)
		default:
			if swapped = true; old != nil {
				v.Stats = old.version.Stats
			}
			delete(problems, text)
			next[number] = &loaded{version: v, config: src.config}
			s.cfg.Log.InfoContext(ctx, "graph loaded", "model", name, "version", text, "sha256", v.SHA256, "max_batch", v.MaxRows, "uses", v.runtime.graph.Uses)
		}
	}
	if !swapped {
		s.update(func() { m.problems = problems })
		return false
	}
	var e modelrepo.Entry
	s.update(func() { e = m.entry })
	retired := s.swap(m, e, next, problems)
	s.update(func() { m.complete = m.complete || len(problems) == 0 })
	s.retireAside(ctx, retired)
	return true
}

// alike reports whether two versions are one graph that works the same way.
func (v *Version) alike(o *Version) bool {
	return v.SHA256 == o.SHA256 && o.runtime.graph != nil && v.runtime.graph.Alike(o.runtime.graph)
}
