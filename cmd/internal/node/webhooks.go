package node

import (
	"context"

	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/deliver"
	"sluice/internal/platform/webhook/send"
)

// openWebhooks prepares what tells endpoints of events.
func (n *Node) openWebhooks(context.Context) error {
	n.streams = append(n.streams, webhook.Stream(n.cfg.NATS.Replicas, Retain))
	sender := send.New(send.Config{})
	s, err := deliver.New(n.Store, n.Queue, sender, n.Directory.Tenants, deliver.Config{Owner: n.owner, Log: n.deps.Log, Metrics: n.deps.Metrics})
	n.carry = append(n.carry, lifecycle.Component{Name: "webhooks", Run: s.Run, Stop: func(context.Context) error { sender.Close(); return nil }})
	return err
}
