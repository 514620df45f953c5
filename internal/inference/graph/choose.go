package graph

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/graph/transform"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// choose is a switch: a node that has one of several run. By a tensor it decides for
// each row, so that it does not matter with which others a row has come.
type choose struct {
	on    model.On
	slot  int // of the tensor it looks at
	cases []branch
	to    []int // the slots of what every case gives
}

// branch is a case, or the last one, which is for all others.
type branch struct {
	when  *model.Case // nil for the last
	in    []string    // when.In, as elements of the tensor are written, see element
	does  *node
	takes []int // slots from around it
	gives []int // slots, parallel to choose.to
}

func (c *choose) run(ctx context.Context, r *run) error {
	if c.on.Tensor == "" {
		value := c.value(r)
		return c.whole(ctx, r, c.pick(func(b *branch) bool { return slices.Contains(b.when.In, value) }))
	}
	groups, err := c.divide(r)
	if err != nil {
		return err
	}
	for i := range groups {
		if len(groups[i]) > 0 && (r.rows < 0 || len(groups[i]) == int(r.rows)) {
			return c.whole(ctx, r, i)
		}
	}
	if r.rows == 0 {
		return c.whole(ctx, r, len(c.cases)-1)
	}
	return c.parts(ctx, r, groups)
}

// whole has one case answer for all rows.
func (c *choose) whole(ctx context.Context, r *run, i int) error {
	b := &c.cases[i]
	if err := b.does.run(ctx, r); err != nil {
		return err
	}
	for k, slot := range b.gives {
		r.slots[c.to[k]] = r.slots[slot]
	}
	return nil
}

// value returns what the request has of what the switch looks at.
func (c *choose) value(r *run) string {
	switch {
	case r.value == nil:
		return ""
	case c.on.Header != "":
		return r.value(experiment.Header, c.on.Header)
	case c.on.Attribute != "":
		return r.value(experiment.Attribute, c.on.Attribute)
	}
	return r.value(experiment.Tenant, "")
}

// pick returns the first case that fits, or the last.
func (c *choose) pick(fits func(*branch) bool) int {
	return slices.IndexFunc(c.cases, func(b branch) bool { return b.when == nil || fits(&b) })
}

// fits reports whether a case is for an element.
func (b *branch) fits(element string, number float64, isNumber bool) bool {
	if len(b.in) > 0 {
		return slices.Contains(b.in, element)
	}
	return isNumber && (b.when.From == nil || number >= *b.when.From) && (b.when.Below == nil || number < *b.when.Below)
}

// divide returns the rows of each case; a graph that does not batch has one, 0.
func (c *choose) divide(r *run) ([][]int, error) {
	t := &r.slots[c.slot]
	n, err := t.Shape.Elements()
	if err != nil {
		return nil, err
	}
	if r.rows < 0 && n != 1 || r.rows >= 0 && n != r.rows {
		return nil, fault.New(fault.Invalid, "'%s' must have one value for each row, got shape %s", c.on.Tensor, t.Shape)
	}
	groups := make([][]int, len(c.cases))
	add := func(row int, element string, number float64, isNumber bool) {
		i := c.pick(func(b *branch) bool { return b.fits(element, number, isNumber) })
		groups[i] = append(groups[i], row)
	}
	if t.Datatype == tensor.Bytes {
		row := 0
		for e := range tensor.Elements(t.Data) {
			add(row, string(e), 0, false)
			row++
		}
		return groups, nil
	}
	for row := range int(n) {
		add(row, element(t.Datatype, t.Data, row), transform.Float(t.Datatype, t.Data, row), true)
	}
	return groups, nil
}

// element writes an element of a number or truth value so that those that are equal
// are written the same.
func element(d tensor.Datatype, data []byte, i int) string {
	switch d {
	case tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64:
		return strconv.FormatFloat(transform.Float(d, data, i)+0, 'g', -1, 64) // -0 is 0, and any NaN another
	case tensor.Bool:
		return strconv.FormatBool(data[i] != 0)
	}
	size := d.Size()
	return string(data[i*size : (i+1)*size])
}

// values reads the values of a case as elements of a tensor.
func (c *compiler) values(n *model.Node, p *model.Port, in []string) ([]string, error) {
	if p.Datatype == tensor.Bytes {
		return in, nil
	}
	out := make([]string, len(in))
	for i, text := range in {
		data, err := transform.AppendValue(nil, p.Datatype, text)
		if err != nil {
			return nil, c.errorf(n, "a case is for what '%s' never is: %s", p.Name, fault.Of(err).Message)
		}
		out[i] = element(p.Datatype, data, 0)
	}
	return out, nil
}

// parts has each case answer for its rows, and puts the answers together.
func (c *choose) parts(ctx context.Context, r *run, groups [][]int) error {
	parts := make([]*run, len(groups))
	err := together(ctx, len(groups), func(ctx context.Context, i int) error {
		if len(groups[i]) == 0 {
			return nil
		}
		part := *r
		part.rows, part.slots = int64(len(groups[i])), make([]tensor.Tensor, len(r.slots)) // what it does not take, others may be writing
		for _, slot := range c.cases[i].takes {
			t, err := transform.Rows(&r.slots[slot], groups[i], r.memory.alloc)
			if err != nil {
				return err
			}
			part.slots[slot] = t
		}
		parts[i] = &part
		return c.whole(ctx, &part, i)
	})
	if err != nil {
		return err
	}
	for _, slot := range c.to {
		if err := c.gather(r, slot, parts, groups); err != nil {
			return err
		}
	}
	return nil
}

// gather puts the rows of one tensor, which the cases have made, into their order.
func (c *choose) gather(r *run, slot int, parts []*run, groups [][]int) error {
	var answers []tensor.Tensor
	order := make([]int, r.rows) // of each row, its place behind all of the cases before
	at := 0
	for i, part := range parts {
		if part == nil {
			continue
		}
		t := part.slots[slot]
		if len(answers) > 0 && !slices.Equal(t.Shape[1:], answers[0].Shape[1:]) {
			return fault.New(fault.Invalid, "the cases give '%s' of different shapes, %s and %s, for rows of one request", r.graph.ports[slot].Name, answers[0].Shape, t.Shape)
		}
		for k, row := range groups[i] {
			order[row] = at + k
		}
		at += len(groups[i])
		answers = append(answers, t)
	}
	joined, err := transform.Stack(answers, r.memory.alloc)
	if err != nil {
		return err
	}
	r.slots[slot], err = transform.Rows(&joined, order, r.memory.alloc)
	return err
}

func (c *compiler) switchNode(n *model.Node, s *scope) (step, error) {
	does := &choose{on: n.On}
	if n.On.Tensor != "" {
		slot, err := c.take(n, s, n.On.Tensor)
		if err != nil {
			return nil, err
		}
		if err := c.decides(&c.ports[slot], n); err != nil {
			return nil, err
		}
		does.slot = slot
	}
	all := make([]model.Port, len(n.Gives))
	for i := range len(n.Cases) + 1 {
		b, one := branch{}, n.Default
		if i < len(n.Cases) {
			b.when, one = &n.Cases[i], &n.Cases[i].Node
		}
		if b.when != nil && n.On.Tensor != "" {
			var err error
			if b.in, err = c.values(n, &c.ports[does.slot], b.when.In); err != nil {
				return nil, err
			}
		}
		if err := c.branch(n, one, s, &b, all); err != nil {
			return nil, err
		}
		does.cases = append(does.cases, b)
	}
	for k, name := range n.Gives {
		slot, err := c.make(n, s, name, all[k])
		if err != nil {
			return nil, err
		}
		does.to = append(does.to, slot)
	}
	return does, nil
}

// decides returns an error unless a tensor can have one value for each row.
func (c *compiler) decides(p *model.Port, n *model.Node) error {
	shape := p.Shape
	if c.batches {
		shape = shape[1:]
	}
	for _, d := range shape {
		if d != 1 && d != -1 {
			return c.errorf(n, "a switch looks at one value, but '%s' has shape %s: take the argmax, a threshold or a slice of it first", p.Name, p.Shape)
		}
	}
	for _, one := range n.Cases {
		if ranged := len(one.In) == 0; ranged && p.Datatype == tensor.Bytes {
			return c.errorf(n, "'%s' is %s, which has no numbers from and below", p.Name, p.Datatype)
		}
	}
	return nil
}

// branch checks one case; all are what the cases before it give.
func (c *compiler) branch(n, one *model.Node, s *scope, b *branch, all []model.Port) (err error) {
	own := s.inner()
	reader := &reads{below: len(c.ports), slots: map[int]bool{}}
	c.readers = append(c.readers, reader)
	b.does, err = c.node(one, own)
	c.readers = c.readers[:len(c.readers)-1]
	if err != nil {
		return err
	}
	b.takes = slices.Sorted(maps.Keys(reader.slots))
	for k, name := range n.Gives {
		slot, made := own.slots[name]
		if !made {
			return c.errorf(one, "as a case of '%s' it must make the tensor '%s'; it makes %s", n.Name, name, known(&scope{slots: own.slots}))
		}
		p := c.ports[slot]
		if all[k].Shape == nil && all[k].Datatype == tensor.Invalid {
			all[k] = p
		}
		if p.Datatype != all[k].Datatype || len(p.Shape) != len(all[k].Shape) {
			return c.errorf(one, "'%s' is %s %s, but cases of '%s' before it make %s %s", name, p.Datatype, p.Shape, n.Name, all[k].Datatype, all[k].Shape)
		}
		all[k].Shape = slices.Clone(all[k].Shape)
		for d := range p.Shape {
			switch have, want := p.Shape[d], all[k].Shape[d]; {
			case have >= 0 && want >= 0 && have != want && n.On.Tensor != "" && c.batches:
				return c.errorf(one, "'%s' has shape %s, but cases of '%s' before it make %s: rows of one request could not be put together", name, p.Shape, n.Name, all[k].Shape)
			case have != want:
				all[k].Shape[d] = -1 // it depends on the case
			}
		}
		b.gives = append(b.gives, slot)
	}
	return nil
}
