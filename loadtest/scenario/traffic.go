package scenario

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
	"sluice/loadtest/workload"
)

// trickling is the pause of slow clients.
const trickling = 100 * time.Millisecond

// traffic is requests that are ready to be sent.
type traffic struct {
	*Traffic
	load load.Load
	pool *load.Pool
}

// prepare makes the connections and requests of some traffic. Each request is
// sent once; later answers are compared with the one that came then.
func (w *world) prepare(ctx context.Context, t *Traffic, connections int) (*traffic, error) {
	out := &traffic{Traffic: t, load: load.Load{SLO: t.SLO, Retries: t.Retries, CheckEvery: 32}}
	conns, err := w.connect(t, connections)
	if err != nil {
		return nil, err
	}
	out.pool = load.NewPool(conns...)
	if err := w.requests(ctx, out); err != nil {
		out.pool.Close()
		return nil, fmt.Errorf("traffic %s: %w", t.Name, err)
	}
	return out, nil
}

func (w *world) connect(t *Traffic, n int) ([]load.Conn, error) {
	switch t.Protocol {
	case "grpc":
		return load.GRPC(w.grpc, n, w.keys[t.Tenant])
	case "events", "generate":
		return load.Events(w.http, n)
	case "slow":
		return load.Slow(w.http, n, t.Trickle, trickling)
	}
	balancer := w.balancer
	if balancer == nil {
		var err error
		if balancer, err = load.NewBalancer(w.http); err != nil {
			return nil, err
		}
	}
	return balancer.Conns(n), nil
}

func (w *world) requests(ctx context.Context, t *traffic) error {
	if t.Body != "" {
		t.load.Requests = []*load.Request{{Wire: w.native(t.Traffic, []byte(t.Body))}}
		return w.rehearse(t, 0)
	}
	ports, err := w.ports(ctx, t.Model)
	if err != nil {
		return err
	}
	lengths := t.Tokens
	if len(lengths) == 0 {
		lengths = []int{workload.Tokens}
	}
	for i := range max(8, len(t.Rows)*len(lengths)) {
		inputs := workload.Inputs(ports, t.Rows[i%len(t.Rows)], lengths[i/len(t.Rows)%len(lengths)], uint64(i))
		wire, err := w.wire(t.Traffic, inputs)
		if err != nil {
			return err
		}
		t.load.Requests = append(t.load.Requests, &load.Request{Wire: wire})
		if err := w.rehearse(t, i); err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
	}
	return nil
}

// wire returns a request in its wire form.
func (w *world) wire(t *Traffic, inputs []tensor.Tensor) ([]byte, error) {
	switch t.Protocol {
	case "grpc":
		return load.InferMessage(t.Model, inputs)
	case "async", "wait":
		wire, err := load.Infer(w.http, t.Model, inputs, load.JSON, 0)
		return w.native(t, load.Body(wire)), err
	case "json":
		return load.Infer(w.http, t.Model, inputs, load.JSON, 0, w.credential(t))
	}
	return load.Infer(w.http, t.Model, inputs, load.Binary, 0, w.credential(t))
}

// native returns a request for a prediction of the native API, or for generate_stream.
func (w *world) native(t *Traffic, body []byte) []byte {
	if t.Protocol == "generate" {
		return load.Post(w.http, "/v2/models/"+t.Model+"/generate_stream", "Content-Type: application/json\r\n"+w.credential(t), body)
	}
	fields := map[string]string{"async": "Prefer: respond-async\r\n", "wait": "Prefer: wait=30\r\n", "events": "Accept: text/event-stream\r\n"}[t.Protocol]
	return load.Post(w.http, "/v1/models/"+t.Model+"/predictions", "Content-Type: application/json\r\n"+fields+w.credential(t), body)
}

func (w *world) credential(t *Traffic) string {
	if key := w.keys[t.Tenant]; key != "" {
		return "Authorization: Bearer " + key + "\r\n"
	}
	return ""
}

// rehearse sends a request once, and has later answers compared with this one
// where they are tensors.
func (w *world) rehearse(t *traffic, i int) error {
	t.load.Status = http.StatusOK
	if t.Protocol == "async" {
		t.load.Status = http.StatusAccepted
	}
	if t.Protocol == "slow" {
		return nil
	}
	r := t.load.Requests[i]
	a, err := t.pool.One(r)
	if err != nil {
		return err
	}
	if a.Status != t.load.Status {
		return fmt.Errorf("status %d: %.300s", a.Status, a.Body)
	}
	decode, ok := map[string]func(load.Answer) ([]tensor.Tensor, error){"json": load.Outputs, "binary": load.Outputs, "grpc": load.MessageOutputs}[t.Protocol]
	if !ok {
		return nil
	}
	want, err := decode(a)
	if err != nil {
		return err
	}
	for o := range want {
		want[o].Data = slices.Clone(want[o].Data)
		if want[o].Datatype != tensor.FP32 {
			return nil // workload.Compare knows no other
		}
	}
	r.Check = workload.CheckerOf(decode, want)
	return nil
}

// ports returns the inputs of a model, as the server's metadata has them.
func (w *world) ports(ctx context.Context, name string) ([]model.Port, error) {
	c, err := w.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var doc struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int64
		}
	}
	if err := c.Get(ctx, "/v2/models/"+name, &doc); err != nil {
		return nil, err
	}
	var ports []model.Port
	for _, in := range doc.Inputs {
		d, err := tensor.Parse(in.Datatype)
		if err != nil {
			return nil, err
		}
		if d != tensor.FP32 && d != tensor.Int64 || len(in.Shape) == 0 {
			return nil, fmt.Errorf("model %s: inputs of %s %v cannot be made up: give the traffic a body", name, in.Datatype, in.Shape)
		}
		ports = append(ports, model.Port{Name: in.Name, Datatype: d, Shape: in.Shape})
	}
	return ports, nil
}
