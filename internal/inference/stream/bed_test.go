package stream

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream/streamtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is the test models behind Models.
type bed struct {
	*Models
	server   *streamtest.Bed
	registry *prometheus.Registry
}

func newBed(t testing.TB, cfg Config) *bed {
	t.Helper()
	return newBedOf(t, cfg, streamtest.New(t))
}

func newBedOf(t testing.TB, cfg Config, server *streamtest.Bed) *bed {
	t.Helper()
	b := &bed{server: server, registry: prometheus.NewRegistry()}
	cfg.Metrics = b.registry
	var err error
	if b.Models, err = New(b.server, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Models.Close)
	return b
}

// call is a codec over values.
type call struct {
	model, version string
	x              int64
	seq            serve.Sequence
	outputs        []string
	steps          int
	rows           int64
	refuse         bool // the answer cannot be encoded

	y      []int64
	batch  int // rows in the last run
	places []serve.Step
	names  []string
	on     func(step serve.Step) error
}

func (c *call) Target() (string, string) { return c.model, c.version }

func (c *call) Decode(_ context.Context, v *serve.Version, req *serve.Request) error {
	rows := max(c.rows, 1)
	data := make([]byte, 0, 8*rows)
	for range rows {
		data = binary.LittleEndian.AppendUint64(data, uint64(c.x))
	}
	req.Inputs = append(req.Inputs, tensor.Tensor{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{rows, 1}, Data: data})
	if v.Name == "plain" {
		req.Inputs = append(req.Inputs, tensor.Tensor{Name: "state", Datatype: tensor.Int64, Shape: tensor.Shape{rows, 1}, Data: make([]byte, 8*rows)})
	}
	req.Sequence, req.MaxSteps = c.seq, c.steps
	req.Outputs = append(req.Outputs, c.outputs...)
	return nil
}

func (c *call) Encode(_ context.Context, _ *serve.Version, resp *serve.Response) error {
	if c.refuse {
		return context.DeadlineExceeded
	}
	c.names, c.batch = c.names[:0], resp.Timing.BatchRows
	for i := range resp.Outputs {
		c.names = append(c.names, resp.Outputs[i].Name)
		if resp.Outputs[i].Name == "y" {
			c.y = append(c.y, int64(binary.LittleEndian.Uint64(resp.Outputs[i].Data)))
		}
	}
	c.places = append(c.places, resp.Step)
	if c.on != nil {
		return c.on(resp.Step)
	}
	return nil
}

func as(ctx context.Context, tenant string) context.Context {
	return access.With(ctx, &access.Principal{Tenant: tenant})
}

// step sends a number to the sequence of stateful model "roll" and returns y.
func (b *bed) step(ctx context.Context, id string, x int64, flags string) (int64, error) {
	c := &call{model: "roll", x: x, seq: serve.Sequence{ID: id}}
	for _, f := range flags {
		switch f {
		case 's':
			c.seq.Start = true
		case 'e':
			c.seq.End = true
		}
	}
	if err := b.Predict(ctx, c); err != nil {
		return 0, err
	}
	return c.y[0], nil
}

func (b *bed) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := true
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				match = match && found
			}
			if match {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}
